//! The gate in front of each upstream and its queue.

mod classes;
mod connections;
mod gate;
mod overload;
mod queue_throughput;

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::gateway::Builder;
use crate::support::{Gateway, Latch, Response, Upstream, UpstreamReply, get, wait_for};

/// Longer than any request waits in these tests.
const PATIENT: Duration = Duration::from_secs(30);

/// An upstream that answers when the latch opens.
pub(crate) fn held() -> (Upstream, Latch) {
    let latch = Latch::new();
    let of_upstream = latch.clone();
    (Upstream::start(move |_| UpstreamReply::ok("x").when_open(&of_upstream)), latch)
}

fn gated(upstream: &Upstream, concurrent: usize, queued: usize, timeout: Duration) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", &concurrent.to_string())
        .set("buckets.b.s3.concurrency.max_queued", &queued.to_string())
        .set("buckets.b.s3.concurrency.queue_timeout_ms", &timeout.as_millis().to_string())
}

pub(crate) fn spawn_get(gateway: &Gateway, target: impl Into<String>) -> JoinHandle<Response> {
    let (address, target) = (gateway.address(), target.into());
    tokio::spawn(async move { get(address, &target).await })
}

async fn queue_holds(gateway: &Gateway, waiting: usize) {
    wait_for(&format!("{waiting} wait"), || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == waiting).then_some(())
    })
    .await;
}
