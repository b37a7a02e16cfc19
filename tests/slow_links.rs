//! Networks that take their time: what is slow but moves is not cut, and nobody pays for another's slowness.

use std::time::Duration;

use crate::support::link::{Link, LinkShape};
use crate::support::{Gateway, Upstream, UpstreamReply, get, put, random_bytes};

fn shape(latency_ms: u64, bytes_per_second: u32) -> LinkShape {
    LinkShape { latency: Duration::from_millis(latency_ms), bytes_per_second }
}

/// T4, T1: a client is not blamed for an upstream that takes its upload slowly: what is not asked for is not waited for. HAProxy's and
/// Envoy's timeouts of clients run on meanwhile
#[tokio::test]
async fn a_slow_upstream_is_not_its_clients_fault() {
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

/// T5, T2: a download over a thin line takes longer than total, first byte and idle timeout together, and comes whole
#[tokio::test]
async fn a_download_over_a_thin_line_comes_whole() {
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

/// T5, T6: an answer that trickles byte by byte is an answer
#[tokio::test]
async fn an_answer_that_trickles_comes_whole() {
    for chunked in [false, true] {
        let upstream = Upstream::start(move |_| {
            let pause = Duration::from_millis(50);
            let act = (0..30).fold(UpstreamReply::ok("x"), |act, _| act.then_body_after(pause, "y"));
            if chunked { act.chunked() } else { act }
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

/// R2, T1: the time that a far upstream takes is its own: with latency each way the answer comes, and the deadline holds over attempts
#[tokio::test]
async fn a_far_upstream_is_tried_again_within_the_deadline() {
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
