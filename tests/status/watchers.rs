//! Many watchers of `/status/stream`, slow ones among them.

use super::event_stream::EventStream;
use crate::support::{Client, Gateway, Upstream, wait_for};

const STREAM: &str = "/status/stream";
const WATCHERS: usize = 1000;

/// X3, X7: watchers do not use up the connections of others, and their number has a maximum of its own
#[tokio::test]
async fn watchers_have_their_own_maximum() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("admin.max_connections", "2")
        .set("admin.max_stream_clients", "6")
        .start()
        .await;
    let mut watchers = Vec::new();
    for _ in 0..6 {
        watchers.push(EventStream::open(&gateway, STREAM, &[]).await);
    }
    let client = Client::connect(gateway.admin_address()).await;
    let refused = EventStream::try_open(client, STREAM, &[]).await.err().expect("a seventh is refused");
    assert_eq!((refused.complete_status(), refused.retry_after()), (503, Some(5)));
    let text = refused.text();
    assert!(text.contains("too_many_watchers") && text.contains("admin.max_stream_clients"), "{text}");
    for _ in 0..3 {
        for path in ["/metrics", "/status", "/config", "/livez"] {
            assert_eq!(gateway.admin(path).await.complete_status(), 200, "{path}");
        }
    }
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await.kind, "snapshot");
        assert_eq!(watcher.next_of("sample").await.kind, "sample");
    }
    drop(watchers.pop());
    wait_for("the place of a watcher that left", || async {
        let client = Client::connect(gateway.admin_address()).await;
        EventStream::try_open(client, STREAM, &[]).await.ok().map(drop)
    })
    .await;
}

/// X7: all of many watchers get the same events, and ordinary requests go on
#[tokio::test]
async fn many_watchers_see_the_same_change() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("admin.max_connections", "4")
        .set("admin.max_stream_clients", "2000")
        .start()
        .await;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        watchers.push(EventStream::open(&gateway, "/status/stream?samples=false", &[]).await);
    }
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await.kind, "snapshot");
    }
    gateway.crash("pool:b", "decide").await;
    let mut seen = Vec::new();
    for watcher in &mut watchers {
        let change = watcher.next().await;
        seen.push((change.kind, change.id, change.data));
    }
    assert_eq!(seen[0].0, "change");
    assert!(seen.iter().all(|change| *change == seen[0]), "{:?}", seen[0]);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.status().await["status"].as_str().map(str::is_empty), Some(false));
}

/// X7, V10: a watcher that reads nothing is disconnected; others receive every sample meanwhile
#[tokio::test]
async fn a_stalled_watcher_is_dropped() {
    let upstream = Upstream::ok("x");
    // Many buckets make long events, which fill the buffers of a client that does not read.
    let builder =
        (0..60).fold(Gateway::builder(), |builder, at| builder.bucket(&format!("bucket{at:02}"), &upstream));
    let gateway =
        builder.set("server.write_stall_timeout", "2").set("admin.max_stream_clients", "2").start().await;
    let client = Client::connect_from([127, 0, 0, 2], gateway.admin_address(), Some(1)).await;
    let stalled = EventStream::try_open(client, STREAM, &[]).await.expect("a stream");
    let mut healthy = EventStream::open(&gateway, STREAM, &[]).await;
    assert_eq!(healthy.next().await.kind, "snapshot");
    let mut last = healthy.next_of("sample").await.id.unwrap();
    let mut samples = 0;
    // The place of the stalled watcher becomes free although its client keeps the connection open.
    loop {
        let sample = healthy.next().await;
        assert_eq!(sample.id, Some(last + 1), "no event is left out: {}", sample.kind);
        last += 1;
        samples += 1;
        let client = Client::connect(gateway.admin_address()).await;
        if EventStream::try_open(client, STREAM, &[]).await.is_ok() {
            break;
        }
        assert!(samples < 60, "the stalled watcher was never dropped");
    }
    drop(stalled);
}
