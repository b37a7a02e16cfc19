//! The circuit breaker as clients and the upstream meet it.

mod attribution;
mod circuit;
mod hang_ups;
mod hold;
mod modes;
mod probe;
mod retry_after;

use std::time::Duration;

use serde_json::Value;

use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream, wait_for};

/// A bucket `b` that is never retried, and opens as by default unless the test says otherwise.
async fn start(upstream: &Upstream, settings: &[(&str, &str)]) -> Gateway {
    breaking(Gateway::builder().bucket("b", upstream), settings).start().await
}

/// The same for a bucket `b` that the test describes.
fn breaking(builder: Builder, settings: &[(&str, &str)]) -> Builder {
    let builder = builder.set("buckets.b.s3.retry.max_attempts", "1");
    settings.iter().fold(builder, |builder, (key, value)| {
        builder.set(&format!("buckets.b.s3.circuit_breaker.{key}"), value)
    })
}

/// The circuit of reads, to which all belong that the tests do not say otherwise of.
async fn circuit(gateway: &Gateway) -> Value {
    circuit_of(gateway, "read").await
}

async fn circuit_of(gateway: &Gateway, class: &str) -> Value {
    gateway.status().await["buckets"]["b"]["breaker"][class].clone()
}

/// Waits until the failures that were answered have opened the circuit: they are told to it as the answer goes out.
async fn opens(gateway: &Gateway) {
    wait_for("the circuit opens", || async { (circuit(gateway).await["state"] == "open").then_some(()) })
        .await;
}

/// Waits until the circuit may be tried again.
async fn passes(gateway: &Gateway, open: Duration) {
    tokio::time::sleep(open).await;
    wait_for("the circuit's time is up", || async {
        let circuit = circuit(gateway).await;
        (circuit["state"] != "open" || circuit["open_for_ms"] == 0).then_some(())
    })
    .await;
}
