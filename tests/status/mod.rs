//! The causes of degradation: each source provoked with real parts, from the begin of the cause to its end.
//!
//! A cause is checked in the status document, in the metric and in the log.

mod bucket_sources;
mod command;
mod documents;
mod event_stream;
mod history;
mod limit_use;
mod process_sources;
mod renewals;
mod schema;
mod stream;
mod watchers;

use serde_json::Value;

use crate::support::{Gateway, wait_for};

/// The present causes with this code.
async fn causes(gateway: &Gateway, code: &str) -> Vec<Value> {
    let status = gateway.status().await;
    let causes = status["causes"].as_array().unwrap().iter();
    causes.filter(|cause| cause["code"] == code).cloned().collect()
}

/// Waits for a cause.
async fn cause(gateway: &Gateway, code: &str) -> Value {
    wait_for(&format!("the cause {code}"), || async { causes(gateway, code).await.pop() }).await
}

/// Waits until a cause has refused this many requests: the record of a request is written after its answer.
async fn cause_that_refused(gateway: &Gateway, code: &str, refused: u64) -> Value {
    wait_for(&format!("{code} has refused {refused}"), || async {
        let cause = causes(gateway, code).await.pop()?;
        let counted = cause["effect"]["refused"].as_u64().unwrap();
        assert!(counted <= refused, "{cause}");
        (counted == refused).then_some(cause)
    })
    .await
}

async fn gauge(gateway: &Gateway, code: &str, scope: &str) -> f64 {
    gateway.metric(&format!("degradation_causes{{code=\"{code}\",scope=\"{scope}\"}}")).await
}

/// Checks the log line of the begin of a cause and its gauge.
async fn has_begun(gateway: &Gateway, code: &str, scope: &str) -> Value {
    let cause = cause(gateway, code).await;
    assert_eq!(gauge(gateway, code, scope).await, 1.0, "{cause}");
    let line = gateway.wait_for_log_line("degradation began", |line| line["code"] == code).await;
    let level = if cause["severity"] == "critical" { "WARNING" } else { "INFO" };
    assert_eq!((&line["level"], &line["severity"]), (&level.into(), &cause["severity"]), "{line}");
    assert_eq!(
        (&line["name"], &line["bucket"]),
        (&cause["scope"]["name"], &cause["scope"]["bucket"]),
        "{line}"
    );
    cause
}

/// Waits for the end of a cause; returns the log line of the end.
async fn has_ended(gateway: &Gateway, code: &str, scope: &str) -> Value {
    wait_for(&format!("the cause {code} ends"), || async {
        causes(gateway, code).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(gauge(gateway, code, scope).await, 0.0, "{code}");
    let line = gateway.wait_for_log_line("degradation ended", |line| line["code"] == code).await;
    assert!(line["lasted_ms"].is_u64(), "{line}");
    let status = gateway.status().await;
    let events = status["events"].as_array().unwrap();
    let of_code: Vec<_> = events.iter().filter(|event| event["cause"]["code"] == code).collect();
    let (first, last) = (of_code.first().unwrap(), of_code.last().unwrap());
    assert_eq!((&first["change"], &last["change"]), (&"began".into(), &"ended".into()), "{of_code:?}");
    assert_eq!(last["cause"]["effect"]["refused"], line["refused"], "{last}");
    line
}
