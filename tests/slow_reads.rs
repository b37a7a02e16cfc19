//! HTTP/1.1 clients that read their answers slowly or not at all; `http2/` has the others.
//!
//! On loopback the kernel buffers megabytes of an answer before its socket is full, so the answers here are larger.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Client, Gateway, Upstream, UpstreamReply, WAIT_MAX, wait_for};

const HOSTILE: [u8; 4] = [127, 0, 0, 2];
/// The kernel's minimum receive buffer.
const TINY_BYTES: Option<u32> = Some(1);
const LARGE_BYTES: usize = 12 << 20;

/// Answers with a large object, and with a small one for `/b/small`.
fn objects() -> Upstream {
    Upstream::start(|seen| {
        if seen.target == "/b/small" {
            UpstreamReply::ok("small")
        } else {
            UpstreamReply::ok(vec![b'x'; LARGE_BYTES])
        }
    })
}

/// Requests the large object.
async fn request_large(address: SocketAddr, receive_bytes: Option<u32>) -> Client {
    let mut client = Client::connect_from(HOSTILE, address, receive_bytes).await;
    client.send("GET /b/large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client
}

async fn in_flight(gateway: &Gateway) -> u64 {
    gateway.status().await["buckets"]["b"]["pool"]["in_flight"].as_u64().unwrap()
}

async fn reasons(gateway: &Gateway, reason: &str) -> u64 {
    let metrics = gateway.metrics().await;
    let name = format!("tidegate_errors_total{{bucket=\"b\",reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

/// V10, T4: one client's unread answers hold at most half of a bucket's permits; a client that reads loses nothing
#[tokio::test]
async fn unread_answers_hold_half_of_a_bucket() {
    let upstream = objects();
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "8")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "20000")
        // Only their number is a reason to cut them.
        .set("server.min_send_rate", "0")
        .start()
        .await;
    let mut hostile = Vec::new();
    for _ in 0..12 {
        hostile.push(request_large(gateway.address(), TINY_BYTES).await);
    }
    for _ in 0..20 {
        assert_eq!(gateway.get("/b/small").await.complete_status(), 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    wait_for("eight were cut, four remain", || async {
        let left = (reasons(&gateway, "slow_client").await, in_flight(&gateway).await);
        (left == (8, 4)).then_some(())
    })
    .await;
    let line = gateway.wait_for_log_line("request", |line| line["reason"] == "slow_client").await;
    assert_eq!((line["status"].as_u64(), line["client"].as_str()), (Some(200), Some("127.0.0.2")));
    let mut broken = 0;
    for client in &mut hostile {
        let answer = client.response("GET").await;
        match answer.broken {
            Some(_) => broken += 1,
            None => assert_eq!(answer.body.len(), LARGE_BYTES, "complete or broken, never short"),
        }
    }
    assert_eq!(broken, 8);
    gateway.wait_until_idle().await;
}

/// V10: a client below the minimum rate is cut after its grace period; one that reads loses nothing at the same setting
#[tokio::test]
async fn a_client_below_the_minimum_rate_is_cut() {
    let upstream = objects();
    // So high that the kernel's buffers are soon used up.
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("server.min_send_rate", "512MiB").start().await;
    let mut slow = request_large(gateway.address(), TINY_BYTES).await;
    let mut fast = request_large(gateway.address(), None).await;
    let answer = fast.response("GET").await;
    assert_eq!((answer.complete_status(), answer.body.len()), (200, LARGE_BYTES));
    let line = gateway.wait_for_log_line("request", |line| line["reason"] == "slow_client_rate").await;
    assert!(line["total_us"].as_u64().unwrap() >= 5_000_000, "{line}");
    assert!(slow.response("GET").await.broken.is_some());
    gateway.wait_until_idle().await;
}

/// V10, T5: an idle event stream does not count as waiting for its client
#[tokio::test]
async fn an_idle_event_stream_is_not_timed_out() {
    let upstream = Upstream::start(|_| {
        UpstreamReply::ok("data: 1\n\n").then_body_after(Duration::from_secs(7), "data: 2\n\n").chunked()
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.min_send_rate", "1GiB")
        .set("server.write_stall_timeout", "1")
        .set("buckets.b.s3.concurrency.max_concurrent", "2")
        .start()
        .await;
    let (one, two) = tokio::join!(gateway.get("/b/events"), gateway.get("/b/events"));
    for answer in [one, two] {
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "data: 1\n\ndata: 2\n\n"));
    }
}

/// V10: an answer that fits into the buffers releases its permit although it is unread
#[tokio::test]
async fn small_unread_answers_hold_no_permit() {
    let upstream = objects();
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "4")
        .start()
        .await;
    let mut unread = Vec::new();
    for _ in 0..60 {
        let mut client = Client::connect_from(HOSTILE, gateway.address(), TINY_BYTES).await;
        client.send("GET /b/small HTTP/1.1\r\nhost: a\r\n\r\n").await;
        unread.push(client);
    }
    gateway.wait_until_idle().await;
    assert_eq!(reasons(&gateway, "slow_client").await, 0);
    for mut client in unread {
        assert_eq!(client.response("GET").await.text(), "small");
    }
}

/// V10: unread completed answers share a bounded memory; beyond it an answer holds its permit until it is read
#[tokio::test]
async fn unread_answers_share_a_bounded_memory() {
    // Chunks: a large body with a length is not read ahead (`tests/splice.rs`).
    let upstream = Upstream::start(|_| UpstreamReply::ok(crate::support::random_bytes(6 << 20)).chunked());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.send_buffer", "100KiB")
        .set("server.send_buffer_per_connection", "100KiB")
        .start()
        .await;
    let mut unread = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect_from(HOSTILE, gateway.address(), TINY_BYTES).await;
        client.send("GET /b/large HTTP/1.1\r\nhost: a\r\n\r\n").await;
        unread.push(client);
    }
    let reserved = async || gateway.metric("send_buffer_bytes").await;
    wait_for("answers are read ahead", || async { (reserved().await > 0.0).then_some(()) }).await;
    for _ in 0..10 {
        assert!(reserved().await <= 102_400.0, "the bound holds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(unread);
    wait_for("all of it is released", || async { (reserved().await == 0.0).then_some(()) }).await;
}

/// T6: an answer that fails while its client does not read ends the connection. It never looks complete by the bytes of the next answer
#[tokio::test]
async fn an_answer_that_fails_unread_does_not_look_complete() {
    const MISSING: usize = 10;
    /// More than the sockets hold of a large answer, and less than the gateway reads ahead in addition.
    const SENT: usize = 80 << 10;
    let upstream = Upstream::start(|seen| {
        let sent = UpstreamReply::ok(vec![b'x'; SENT]);
        match seen.target.as_str() {
            "/b/small" => UpstreamReply::ok("small"),
            "/b/chunked" => sent.then_body_after(WAIT_MAX, "rest").chunked(),
            "/b/silent" => sent.then_body_after(WAIT_MAX, vec![b'x'; MISSING]),
            "/b/closed" => UpstreamReply::ok(vec![b'x'; SENT + MISSING]).cut_at(SENT),
            _ => UpstreamReply::ok(vec![b'x'; SENT + MISSING]).cut_at(SENT).then_reset(),
        }
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.min_send_rate", "0")
        .set("server.buffer_budget", "0")
        .set("buckets.b.s3.idle_timeout", "0.5")
        .start()
        .await;
    for id in ["silent", "chunked", "closed", "reset"] {
        let mut client = Client::connect_from(HOSTILE, gateway.address(), TINY_BYTES).await;
        let next = "GET /b/small HTTP/1.1\r\nhost: a\r\n\r\n";
        client.send(format!("GET /b/{id} HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\n\r\n{next}")).await;
        let line = gateway.wait_for_access_line(id).await;
        assert!(line["reason"].is_string(), "{line}");
        let answer = client.response("GET").await;
        assert!(answer.broken.is_some(), "{id}: it looks complete");
        assert!(answer.body.iter().all(|byte| *byte == b'x'), "{id}: it has bytes of the next answer");
    }
    assert!(upstream.seen().iter().all(|seen| seen.target != "/b/small"), "no request follows");
}
