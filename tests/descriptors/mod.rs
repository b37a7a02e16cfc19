//! Descriptor shortage: idle connections close, the admin listener answers, and no upstream failure is counted.

mod idle;
mod limits;
mod shortage;

use serde_json::Value;

use crate::support::client::{Client, message};
use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream};

/// Few upstream connections, so that most descriptors are the clients'.
fn narrow(upstream: &Upstream) -> Builder {
    few_upstreams(Gateway::builder().bucket("b", upstream))
}

fn few_upstreams(builder: Builder) -> Builder {
    builder
        .set("buckets.b.s3.concurrency.max_concurrent", "4")
        .set("buckets.b.s3.connection_pool.max_idle", "2")
}

/// A connection that has served a request and is kept.
async fn kept(gateway: &Gateway) -> Client {
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", "/b/k", &[("connection", "keep-alive")], None)).await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
    client
}

/// The read circuit's entry in `/status`.
async fn circuit_state(gateway: &Gateway) -> Value {
    gateway.status().await["buckets"]["b"]["breaker"]["read"]["state"].clone()
}
