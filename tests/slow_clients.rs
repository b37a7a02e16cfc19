//! Clients that send their bodies slowly, over cleartext; `https/slow.rs` has the others.

use std::time::Duration;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Upstream, wait_for};

/// Bytes sent at once, so that the rest is streamed and not buffered first.
const STREAMED: usize = 200_000;

fn paced(upstream: &Upstream, bytes_per_second: &str) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("server.min_body_rate", bytes_per_second)
        .set("server.min_body_rate_grace", "0.5")
}

/// Sends the head, and then these bytes one by one until all are sent or the gateway closes.
async fn trickle(gateway: &Gateway, head: &str, pieces: &[&str]) -> (Option<Response>, Client) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(head).await;
    for piece in pieces {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if client.try_send(piece).await.is_err() {
            break;
        }
    }
    (client.try_response("PUT").await, client)
}

/// T4, T3: a body below the minimum rate is cut with 408, buffered or streamed, with a length or chunked; no store gets
/// a partial body as a complete one, and the circuit counts nothing
#[tokio::test]
async fn a_body_that_trickles_in_is_cut_off() {
    let upstream = Upstream::ok("stored");
    let gateway = paced(&upstream, "1000000").set("buckets.b.s3.circuit_breaker.failure_threshold", "1");
    let gateway = gateway.start().await;
    let start = "x".repeat(STREAMED);
    for (name, head, piece) in [
        ("small", "content-length: 1000\r\n\r\n".to_owned(), "x"),
        ("long", format!("content-length: 1000000\r\n\r\n{start}"), "x"),
        ("chunked", format!("transfer-encoding: chunked\r\n\r\n{STREAMED:x}\r\n{start}\r\n"), "1\r\nx\r\n"),
        ("silent", "content-length: 1000\r\n\r\n".to_owned(), ""),
    ] {
        let head = format!("PUT /b/k HTTP/1.1\r\nhost: a\r\n{head}");
        let (answer, mut client) = trickle(&gateway, &head, &[piece; 12]).await;
        let answer = answer.expect(name);
        assert_eq!((answer.complete_status(), answer.reason()), (408, "timeout_body_rate"), "{name}");
        assert!(answer.text().contains("<Code>RequestTimeout</Code>"), "{name}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{name}");
        assert!(client.is_closed().await, "{name}");
        wait_for("the upstream connection is closed", || async { (upstream.in_flight() == 0).then_some(()) })
            .await;
    }
    assert!(upstream.seen().iter().all(|seen| !seen.is_complete), "a partial body looks complete");
    gateway.wait_until_idle().await;
    assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"timeout_body_rate\"}").await, 4.0);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// T4: a client above the minimum rate is never cut
#[tokio::test]
async fn a_body_above_the_minimum_rate_is_accepted() {
    let upstream = Upstream::ok("stored");
    let gateway = paced(&upstream, "100").start().await;
    let piece = "x".repeat(500);
    let (answer, _) = trickle(
        &gateway,
        "PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 7500\r\n\r\n",
        &[piece.as_str(); 15],
    )
    .await;
    assert_eq!(answer.unwrap().complete_status(), 200);
    assert_eq!(upstream.last().body.len(), 7500);
}

/// T4, T1: without a minimum rate only the idle timeout applies; reading a small body does not count towards the total
/// timeout either
#[tokio::test]
async fn without_a_minimum_rate_a_body_may_be_slow() {
    let upstream = Upstream::ok("stored");
    let gateway = paced(&upstream, "0").set("server.request_timeout", "0.8").start().await;
    let (answer, _) =
        trickle(&gateway, "PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 15\r\n\r\n", &["x"; 15]).await;
    assert_eq!(answer.unwrap().complete_status(), 200);
    assert_eq!(upstream.last().body, vec![b'x'; 15]);
}
