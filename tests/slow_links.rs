//! Slow networks: a slow transfer with progress is not cut, and one side's slowness is not attributed to the other.

use std::time::Duration;

use crate::support::link::{Link, LinkShape};
use crate::support::{Gateway, Upstream, UpstreamReply, get, put, random_bytes};

fn shape(latency_ms: u64, bytes_per_second: u32) -> LinkShape {
    LinkShape { latency: Duration::from_millis(latency_ms), bytes_per_second }
}

/// T4, T1: a slow upstream does not trigger the client's upload timeout: it pauses while the gateway does not read. The
/// client timeouts of HAProxy and Envoy keep running
#[tokio::test]
async fn a_slow_upstream_does_not_time_out_its_client() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("stored"));
    let link = Link::start(upstream.address(), shape(1, 4 << 20));
    let gateway = Gateway::builder()
        .bucket_at("b", &[link.address])
        .set("server.min_body_rate", "1GiB")
        .set("server.min_body_rate_grace", "1")
        .set("server.request_timeout", "2")
        .start()
        .await;
    let body = random_bytes(12 << 20);
    let answer = put(gateway.address(), "/b/k", &body).await;
    assert_eq!((answer.complete_status(), answer.reason()), (200, ""), "{}", answer.text());
    assert_eq!(upstream.last().sha256(), crate::support::client::sha256(&body));
}

/// T5, T2: a download over a slow link may take longer than total, first-byte and idle timeout together, and is
/// complete
#[tokio::test]
async fn a_download_over_a_slow_link_is_complete() {
    let body = random_bytes(300_000);
    let sent = body.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok(&sent));
    let link = Link::start(upstream.address(), shape(50, 100_000));
    let gateway = Gateway::builder()
        .bucket_at("b", &[link.address])
        .set("server.request_timeout", "1")
        .set("buckets.b.s3.timeout", "1")
        .set("buckets.b.s3.idle_timeout", "0.8")
        .start()
        .await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.body == body), (200, true));
}

/// T5, T6: an answer that arrives byte by byte is forwarded completely
#[tokio::test]
async fn an_answer_byte_by_byte_is_complete() {
    for chunked in [false, true] {
        let upstream = Upstream::start(move |_| {
            let pause = Duration::from_millis(50);
            let reply = (0..30).fold(UpstreamReply::ok("x"), |reply, _| reply.then_body_after(pause, "y"));
            if chunked { reply.chunked() } else { reply }
        });
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("server.request_timeout", "0.6")
            .set("buckets.b.s3.timeout", "0.6")
            .set("buckets.b.s3.idle_timeout", "0.6")
            .start()
            .await;
        let answer = get(gateway.address(), "/b/k").await;
        assert_eq!(
            (answer.complete_status(), answer.text()),
            (200, format!("x{}", "y".repeat(30))),
            "{chunked}"
        );
    }
}

/// R2, T1: latency in each direction does not fail a request, and the deadline covers all attempts
#[tokio::test]
async fn a_distant_upstream_is_retried_within_the_deadline() {
    let upstream = Upstream::sequence(vec![
        UpstreamReply::status(503),
        UpstreamReply::status(503),
        UpstreamReply::ok("x"),
    ]);
    let link = Link::start(upstream.address(), shape(100, 1 << 20));
    let gateway = Gateway::builder().bucket_at("b", &[link.address]).start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(upstream.count(), 3);
    let hasty = [("x-request-timeout", "150ms")];
    let answer = crate::support::request(gateway.address(), "GET", "/b/k", &hasty, None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_deadline"));
}
