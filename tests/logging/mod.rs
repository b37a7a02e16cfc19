//! The log: redaction and escaping, outputs, and failing outputs.

mod blocked;
mod forged;
mod output;
mod terminal;

use serde_json::Value;

use crate::support::{Gateway, wait_for};

/// Waits for the degradation cause `log` with this subject in the status.
async fn log_cause(gateway: &Gateway, subject: &str) -> Value {
    wait_for(&format!("the status names the log's cause {subject}"), || async {
        let status = gateway.status().await;
        let causes = status["causes"].as_array().unwrap();
        let cause =
            causes.iter().find(|cause| cause["code"] == "log" && cause["scope"]["name"] == subject).cloned();
        cause.inspect(|_| assert_eq!(status["status"], "degraded"))
    })
    .await
}
