//! The circuit breaker in the built gateway, as clients and upstreams observe it.

mod attribution;
mod circuit;
mod circuit_wait;
mod disconnects;
mod modes;
mod probe;
mod retry_after;

use std::time::Duration;

use serde_json::Value;

use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream, wait_for};

/// A bucket `b` without retries and with the default thresholds; `settings` override.
async fn start(upstream: &Upstream, settings: &[(&str, &str)]) -> Gateway {
    breaking(Gateway::builder().bucket("b", upstream), settings).start().await
}

/// The same for a bucket `b` from the test.
fn breaking(builder: Builder, settings: &[(&str, &str)]) -> Builder {
    let builder = builder.set("buckets.b.s3.retry.max_attempts", "1");
    settings.iter().fold(builder, |builder, (key, value)| {
        builder.set(&format!("buckets.b.s3.circuit_breaker.{key}"), value)
    })
}

/// The read circuit, the default in these tests.
async fn circuit(gateway: &Gateway) -> Value {
    circuit_of(gateway, "read").await
}

async fn circuit_of(gateway: &Gateway, class: &str) -> Value {
    gateway.status().await["buckets"]["b"]["breaker"][class].clone()
}

/// Waits until the circuit is open: failures are reported to it while the answers are sent.
async fn opens(gateway: &Gateway) {
    wait_for("the circuit opens", || async { (circuit(gateway).await["state"] == "open").then_some(()) })
        .await;
}

/// Waits until the circuit admits a trial.
async fn passes(gateway: &Gateway, open: Duration) {
    tokio::time::sleep(open).await;
    wait_for("the open time has ended", || async {
        let circuit = circuit(gateway).await;
        (circuit["state"] != "open" || circuit["open_for_ms"] == 0).then_some(())
    })
    .await;
}
