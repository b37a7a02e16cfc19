//! Bounds on the requests of one client: how many permits may wait for its bytes, and how many it may hold in all.
//!
//! Clients differ in their loopback addresses. Here they do not send their bodies; `slow_reads.rs` has clients that do
//! not read.

use std::time::Duration;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, wait_for};

const HOSTILE: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];
/// Bytes sent at once, so that the rest is streamed and not buffered first.
const STREAMED: usize = 200_000;
const BODY: usize = 300_000;

/// A bucket with four permits, in which requests are cut only while they wait for clients.
fn four_places(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "4")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "20000")
        .set("server.min_body_rate", "0")
}

/// Begins an upload and sends only this part of its body.
async fn begin(gateway: &Gateway, local: [u8; 4], sent: usize) -> Client {
    let mut client = Client::connect_from(local, gateway.address(), None).await;
    client.send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY}\r\n\r\n")).await;
    client.send("x".repeat(sent)).await;
    client
}

async fn in_flight(gateway: &Gateway) -> u64 {
    gateway.status().await["requests_in_flight"].as_u64().unwrap()
}

/// The number of cut requests.
async fn cut(gateway: &Gateway) -> usize {
    gateway.metric("errors_total{bucket=\"b\",reason=\"slow_client\"}").await as usize
}

async fn are_cut(gateway: &Gateway, count: usize) {
    wait_for("some uploads are cut", || async { (cut(gateway).await == count).then_some(()) }).await;
}

async fn is_full(gateway: &Gateway) {
    wait_for("four uploads are waiting", || async { (in_flight(gateway).await == 4).then_some(()) }).await;
}

/// Two of four uploads were cut, each as the third of its client; the other two continue and are stored. `key` is that of the places.
async fn two_are_cut(gateway: &Gateway, uploads: Vec<Client>, sent: usize, key: &str) {
    are_cut(gateway, 2).await;
    for (at, mut upload) in uploads.into_iter().enumerate() {
        if at < 2 {
            let answer = upload.response("PUT").await;
            assert_eq!((answer.complete_status(), answer.reason()), (408, "slow_client"), "upload {at}");
            assert!(upload.is_closed().await);
        } else {
            upload.send("x".repeat(BODY - sent)).await;
            assert_eq!(upload.response("PUT").await.complete_status(), 200, "upload {at}");
        }
    }
    gateway.wait_until_idle().await;
    assert_eq!(cut(gateway).await, 2);
    let answer = gateway.admin("/decisions?reason=slow_client").await;
    let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let records = found["decisions"].as_array().unwrap();
    assert_eq!(records.len(), 2, "{records:?}");
    for record in records {
        assert_eq!((&record["measured"], &record["threshold"]), (&3.into(), &2.into()), "{record}");
        assert_eq!(
            (&record["unit"], &record["config"]["key"]),
            (&"requests".into(), &key.into()),
            "{record}"
        );
    }
}

/// V10, T4: one client's stalled uploads hold at most half of a bucket's permits; the longest waiting are cut, and
/// other clients are served
#[tokio::test]
async fn uploads_of_one_client_hold_half_of_a_bucket() {
    let upstream = Upstream::ok("stored");
    for sent in [STREAMED, 0] {
        let gateway = four_places(&upstream).start().await;
        let mut uploads = Vec::new();
        for _ in 0..4 {
            uploads.push(begin(&gateway, HOSTILE, sent).await);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        is_full(&gateway).await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        let key = "buckets.b.s3.concurrency.max_concurrent";
        two_are_cut(&gateway, uploads, sent, key).await;
    }
}

/// V10, P2: the same for the slots of the process
#[tokio::test]
async fn uploads_of_one_client_hold_half_of_the_slots() {
    let upstream = Upstream::ok("stored");
    let gateway = four_places(&upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "50")
        .set("server.max_concurrent_requests", "4")
        .start()
        .await;
    let mut uploads = Vec::new();
    for _ in 0..4 {
        uploads.push(begin(&gateway, HOSTILE, STREAMED).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    wait_for("a slot is free", || async {
        let answer = gateway.get("/b/k").await;
        (answer.complete_status() == 200).then_some(())
    })
    .await;
    two_are_cut(&gateway, uploads, STREAMED, "server.max_concurrent_requests").await;
}

/// V10: the bound of one half is per client, and a client that keeps sending is not counted
#[tokio::test]
async fn clients_within_their_half_are_not_cut() {
    let upstream = Upstream::ok("stored");
    let gateway = four_places(&upstream).start().await;
    let mut uploads = Vec::new();
    for local in [HOSTILE, HOSTILE, OTHER, OTHER] {
        uploads.push(begin(&gateway, local, STREAMED).await);
    }
    is_full(&gateway).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for upload in &mut uploads {
        upload.send("x".repeat(BODY - STREAMED)).await;
        assert_eq!(upload.response("PUT").await.complete_status(), 200);
    }
    // Four uploads of one client that pause for less than a second.
    let mut steady = Vec::new();
    for _ in 0..4 {
        steady.push(begin(&gateway, HOSTILE, STREAMED).await);
    }
    is_full(&gateway).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for upload in &mut steady {
            upload.send("x".repeat((BODY - STREAMED) / 10)).await;
        }
    }
    for mut upload in steady {
        assert_eq!(upload.response("PUT").await.complete_status(), 200);
    }
}

/// V10, S5: a crash of the pool that loses a report does not lift the bound
#[tokio::test]
async fn the_bound_survives_a_pool_crash() {
    let upstream = Upstream::ok("stored");
    for at in ["decide", "apply"] {
        let gateway = four_places(&upstream).chaos().start().await;
        let mut uploads = Vec::new();
        for _ in 0..4 {
            uploads.push(begin(&gateway, HOSTILE, STREAMED).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        is_full(&gateway).await;
        gateway.crash_next("pool:b", at).await;
        are_cut(&gateway, 2).await;
        assert!(gateway.actor("pool:b").await["restarts"].as_u64().unwrap() >= 1, "{at}");
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{at}");
        drop(uploads);
        gateway.wait_until_idle().await;
    }
}

/// V10: `concurrency.max_per_client` bounds a client's requests in flight, for any cause of waiting
#[tokio::test]
async fn max_per_client_bounds_requests_in_flight() {
    let latch = Latch::new();
    let upstream = Upstream::start({
        let latch = latch.clone();
        move |_| UpstreamReply::ok("late").when_open(&latch)
    });
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("concurrency.max_per_client", "2").start().await;
    let get = "GET /b/k HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect_from(HOSTILE, gateway.address(), None).await;
        client.send(get).await;
        clients.push(client);
    }
    upstream.wait_until_in_flight(2).await;
    let mut third = Client::connect_from(HOSTILE, gateway.address(), None).await;
    third.send(get).await;
    let refused = third.response("GET").await;
    assert_eq!((refused.complete_status(), refused.reason()), (429, "client_concurrency"));
    assert!(refused.retry_after().is_some_and(|seconds| (1..=2).contains(&seconds)), "{refused:?}");
    let mut other = Client::connect_from(OTHER, gateway.address(), None).await;
    other.send(get).await;
    upstream.wait_until_in_flight(3).await;
    latch.open_for_all();
    for client in clients.iter_mut().chain([&mut other]) {
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    third.send(get).await;
    assert_eq!(third.response("GET").await.complete_status(), 200);
    assert_eq!(gateway.metric("client_concurrency_rejections_total").await, 1.0);
}
