//! Preflights that are forwarded take permits of the bucket's gate, and leave most of them to reads.

use crate::preflights::{BROWSER, preflight, signed};
use crate::support::{Client, Latch, Upstream, UpstreamReply, client};

/// A6, P3: a preflight takes a permit of the bucket's gate, and is refused if none is free
#[tokio::test]
async fn a_preflight_takes_a_permit() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("").when_open(&held));
    let gateway = signed(&upstream)
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.max_queued", "0")
        .start()
        .await;
    let mut first = Client::connect(gateway.address()).await;
    first.send(client::message("GET", "/b/k", &[], None)).await;
    upstream.wait_until_in_flight(1).await;
    let refused = preflight(&gateway, "/b/k", &[]).await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "queue_full"));
    latch.open_for_all();
    assert_eq!(first.response("GET").await.complete_status(), 200);
    assert_eq!(upstream.count(), 1);
}

/// A6, P3, V10: preflights take at most a tenth of the gate until their answers end; the rest is for reads
#[tokio::test]
async fn preflights_leave_permits_to_reads() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.method.as_str() {
        "OPTIONS" => UpstreamReply::ok("").when_open(&held),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = signed(&upstream)
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.s3.concurrency.max_concurrent", "20")
        .start()
        .await;
    let mut waiting = Vec::new();
    for number in 1..=2 {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("OPTIONS", "/b/k", &BROWSER, None)).await;
        upstream.wait_until_in_flight(number).await;
        waiting.push(client);
    }
    let refused = preflight(&gateway, "/b/k", &[]).await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "too_many_preflights"));
    assert!(refused.text().contains("set buckets.NAME.cors"), "{}", refused.text());
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    latch.open_for_all();
    for mut client in waiting {
        assert_eq!(client.response("OPTIONS").await.complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    assert_eq!(preflight(&gateway, "/b/k", &[]).await.complete_status(), 200);
}
