//! The gate in front of each upstream and its queue.

mod classes;
mod connections;
mod gate;
mod overload;
mod queue_throughput;

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Latch, Response, Upstream, UpstreamReply, get, wait_for};

/// Longer than any request waits in these tests.
const PATIENT: Duration = Duration::from_secs(30);

/// An upstream that answers when the latch opens.
pub(crate) fn held() -> (Upstream, Latch) {
    let latch = Latch::new();
    let of_upstream = latch.clone();
    (Upstream::start(move |_| UpstreamReply::ok("x").when_open(&of_upstream)), latch)
}

/// A bucket with a gate and a queue. Its cursor is off: on a busy machine it would refuse requests before the queue does.
fn gated(upstream: &Upstream, concurrent: usize, queued: usize, timeout: Duration) -> Builder {
    let builder = Gateway::builder().bucket("b", upstream);
    let builder = match queued {
        // Without a queue there is nothing to switch off.
        0 => builder,
        _ => builder.set("buckets.b.s3.concurrency.shedding.mode", "off"),
    };
    builder
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

/// P3, X7: requests that have timed out and those of clients that have left are not counted in the queue, although no permit is released
#[tokio::test]
async fn a_queue_counts_no_request_that_has_left() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 10, Duration::from_millis(1_500)).start().await;
    let holder = spawn_get(&gateway, "/b/holder");
    upstream.wait_until_in_flight(1).await;
    let waiting: Vec<_> = (0..3).map(|at| spawn_get(&gateway, format!("/b/{at}"))).collect();
    let mut leaving = Client::connect(gateway.address()).await;
    leaving.send("GET /b/leaves HTTP/1.1\r\nhost: a\r\n\r\n").await;
    queue_holds(&gateway, 4).await;
    drop(leaving);
    queue_holds(&gateway, 3).await;
    for one in waiting {
        assert_eq!(one.await.unwrap().reason(), "queue_timeout");
    }
    queue_holds(&gateway, 0).await;
    assert_eq!(gateway.metric("bucket_queue_depth{bucket=\"b\"}").await, 0.0);
    latch.open_for_all();
    assert_eq!(holder.await.unwrap().complete_status(), 200);
    gateway.wait_until_idle().await;
}
