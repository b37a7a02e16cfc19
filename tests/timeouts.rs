//! Timeouts in both directions: what is cut, what is not, and that a cut releases everything at once.

use std::time::{Duration, Instant};

use crate::support::unreachable::UnresponsiveAddress;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, get, put, wait_for};

fn once(upstream: &Upstream) -> crate::support::gateway::Builder {
    Gateway::builder().bucket("b", upstream).set("buckets.b.s3.retry.max_attempts", "1")
}

/// T2, T3: without a first byte in time the answer is 504, the upstream connection is closed at once, and its permit is
/// released
#[tokio::test]
async fn no_first_byte_is_504_and_closes_the_upstream_connection() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = once(&upstream).set("buckets.b.s3.timeout", "0.2").start().await;
    let began = Instant::now();
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_first_byte"));
    assert!(answer.text().contains("<Code>GatewayTimeout</Code>"), "{}", answer.text());
    assert!(began.elapsed() >= Duration::from_millis(200));
    wait_for("its connection is closed", || async { (upstream.open_connections() == 0).then_some(()) }).await;
    assert_eq!(upstream.cancelled(), 1);
    gateway.wait_until_idle().await;
    assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"timeout_first_byte\"}").await, 1.0);
}

/// A9, T3: a store that never answers a GetBucketLocation is cut in time, although the gateway makes the document itself
#[tokio::test]
async fn a_location_without_an_answer_is_504() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    for attempts in ["1", "3"] {
        let gateway = once(&upstream)
            .set("buckets.b.s3.timeout", "0.2")
            .set("buckets.b.s3.retry.max_attempts", attempts)
            .set("server.request_timeout", "0.5")
            .start()
            .await;
        let began = Instant::now();
        let answer = gateway.get("/b?location").await;
        assert_eq!(answer.complete_status(), 504, "{}", answer.text());
        assert!(answer.reason().starts_with("timeout_"), "{}", answer.reason());
        assert!(!answer.text().contains("LocationConstraint"), "{}", answer.text());
        assert!(began.elapsed() >= Duration::from_millis(200));
        gateway.wait_until_idle().await;
    }
    wait_for("its connections are closed", || async { (upstream.open_connections() == 0).then_some(()) })
        .await;
}

/// T2: the first-byte timeout starts at the end of the request body, not at its beginning
#[tokio::test]
async fn a_slow_upload_does_not_consume_the_first_byte_timeout() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("stored").delayed(Duration::from_millis(300)));
    let gateway = once(&upstream).set("buckets.b.s3.timeout", "3").start().await;
    let body = paced_upload(&gateway, 8, Duration::from_millis(500)).await;
    assert_eq!(upstream.last().sha256(), client::sha256(&body));
}

/// T1: the total timeout does not run while request body bytes are forwarded
#[tokio::test]
async fn a_flowing_upload_may_exceed_the_total_timeout() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("stored"));
    let gateway = once(&upstream).set("server.request_timeout", "3").start().await;
    let body = paced_upload(&gateway, 8, Duration::from_millis(500)).await;
    assert_eq!(upstream.last().sha256(), client::sha256(&body));
}

/// Uploads in pieces with pauses; the answer must be 200.
async fn paced_upload(gateway: &Gateway, pieces: usize, pause: Duration) -> Vec<u8> {
    let piece = vec![b'x'; 20_000];
    let mut uploading = Client::connect(gateway.address()).await;
    let length = piece.len() * pieces;
    uploading.send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
    for _ in 0..pieces {
        tokio::time::sleep(pause).await;
        uploading.send(&piece).await;
    }
    let answer = uploading.response("PUT").await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    piece.repeat(pieces)
}

/// T1: the total timeout cuts a request without an answer, retries included
#[tokio::test]
async fn the_total_ends_a_request_without_an_answer() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.request_timeout", "0.5")
        .set("buckets.b.s3.timeout", "10")
        .start()
        .await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_total"));
    wait_for("its connection is closed", || async { (upstream.open_connections() == 0).then_some(()) }).await;
    assert_eq!(upstream.count(), 1, "no time was left for another attempt");
    gateway.wait_until_idle().await;
}

/// T2, T3, T6: a stalled answer is cut: the client gets a broken transfer, never a short body
#[tokio::test]
async fn a_stalled_answer_is_cut() {
    for chunked in [false, true] {
        let upstream = Upstream::start(move |_| {
            let reply = UpstreamReply::ok("begin").then_body_after(Duration::from_secs(60), "end");
            if chunked { reply.chunked() } else { reply }
        });
        let gateway = once(&upstream).set("buckets.b.s3.idle_timeout", "0.2").start().await;
        let answer = get(gateway.address(), "/b/k").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "begin"));
        assert!(answer.broken.is_some(), "chunked {chunked}: the body looks complete");
        wait_for("its connection is closed", || async { (upstream.open_connections() == 0).then_some(()) })
            .await;
        gateway.wait_until_idle().await;
        assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"timeout_idle\"}").await, 1.0);
    }
}

/// T2: connecting has a separate timeout
#[tokio::test]
async fn a_connect_timeout_is_504() {
    let silent = UnresponsiveAddress::new();
    let gateway = Gateway::builder()
        .bucket_at("b", &[silent.address])
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.connect_timeout", "0.3")
        .start()
        .await;
    let began = Instant::now();
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_connect"));
    assert!(began.elapsed() >= Duration::from_millis(300));
    gateway.wait_until_idle().await;
}

/// T1, T5: the total timeout does not cut long downloads and long chunked streams after their first byte
#[tokio::test]
async fn a_long_answer_is_not_cut_by_the_total() {
    for chunked in [false, true] {
        let upstream = Upstream::start(move |_| {
            let reply = (0..8).fold(UpstreamReply::ok("piece"), |reply, _| {
                reply.then_body_after(Duration::from_millis(300), "piece")
            });
            if chunked { reply.chunked() } else { reply }
        });
        let gateway =
            once(&upstream).set("server.request_timeout", "2").set("buckets.b.s3.timeout", "2").start().await;
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.text()), (200, "piece".repeat(9)), "chunked {chunked}");
    }
}

/// T2, T3: a stalled upload is cut, and the upstream does not get it as a complete one
#[tokio::test]
async fn a_stalled_upload_is_cut() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("stored"));
    let gateway = once(&upstream).set("buckets.b.s3.idle_timeout", "0.3").start().await;
    // Too large to be held in any buffer.
    let begin = "x".repeat(0x7_0000);
    for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let before = upstream.cancelled();
        let mut uploading = Client::connect(gateway.address()).await;
        uploading
            .send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n70000\r\n{begin}\r\n"))
            .await;
        let answer = uploading.response("PUT").await;
        assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_upload"), "{framing}");
        wait_for("the upstream connection is closed", || async {
            (upstream.cancelled() == before + 1).then_some(())
        })
        .await;
        assert!(!upstream.last().is_complete, "{framing}: the upstream got it as complete");
    }
    gateway.wait_until_idle().await;
    assert_eq!(put(gateway.address(), "/b/k", "x").await.complete_status(), 200);
}

/// T2, T3: a small upload, which is buffered before the upstream is called, has a timeout too
#[tokio::test]
async fn a_stalled_small_upload_times_out() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("stored"));
    let gateway = once(&upstream)
        .set("buckets.b.s3.idle_timeout", "0.3")
        .set("server.request_timeout", "1")
        .start()
        .await;
    let mut uploading = Client::connect(gateway.address()).await;
    uploading.send("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nbegin").await;
    let answer = uploading.try_response("PUT").await;
    assert!(answer.is_none_or(|answer| matches!(answer.status, 400 | 408 | 504)));
    assert_eq!(upstream.count(), 0, "the upstream was not called with half a body");
    gateway.wait_until_idle().await;
}

/// T4: a client that sends its head slowly is cut off
#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let upstream = Upstream::ok("x");
    let gateway = once(&upstream).set("server.header_timeout", "0.5").start().await;
    let mut slow = Client::connect(gateway.address()).await;
    slow.send("GET /b/k HTTP/1.1\r\nhost: a\r\n").await;
    let answer = slow.try_response("GET").await;
    assert!(answer.is_none_or(|answer| answer.status == 408), "an endless head is not forwarded");
    assert!(slow.is_closed().await);
    assert_eq!(upstream.count(), 0);
}

/// T4: an idle connection is closed after `keep_alive`
#[tokio::test]
async fn an_idle_client_connection_is_closed() {
    let upstream = Upstream::ok("x");
    let gateway = once(&upstream).set("server.keep_alive", "1").start().await;
    let mut idle = Client::connect(gateway.address()).await;
    for _ in 0..2 {
        idle.send(client::message("GET", "/b/k", &[], None)).await;
        assert_eq!(idle.response("GET").await.complete_status(), 200, "kept open in between");
    }
    assert!(idle.is_closed().await);
}

/// T4: a client that reads nothing of its answer is cut
#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let body = vec![b'x'; 32 << 20];
    let upstream = Upstream::start(move |_| UpstreamReply::ok(&body));
    let gateway = once(&upstream).set("server.write_stall_timeout", "0.5").start().await;
    let mut stalled = Client::connect(gateway.address()).await;
    stalled.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(stalled.head().await.status, 200);
    gateway.wait_until_idle().await;
    wait_for("the upstream connection is closed", || async { (upstream.cancelled() == 1).then_some(()) })
        .await;
}
