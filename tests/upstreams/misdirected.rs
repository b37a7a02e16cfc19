//! A store's 421 (Misdirected Request) causes one more attempt on a new connection.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::support::{Gateway, Response, Upstream, UpstreamReply, gateway, request};

/// A store that serves on each connection only the `Host` of its first request.
fn one_host_per_connection() -> Upstream {
    let hosts = Mutex::new(HashMap::<usize, String>::new());
    Upstream::start(move |seen| {
        let host = seen.header("host").unwrap().to_owned();
        let mut hosts = hosts.lock().unwrap();
        let first = hosts.entry(seen.connection).or_insert_with(|| host.clone());
        if *first == host { UpstreamReply::ok("x") } else { UpstreamReply::status(421) }
    })
}

/// A gateway with one worker, hence one connection pool, and virtual-hosted upstream requests.
fn virtual_hosts(upstream: &Upstream) -> gateway::Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.pattern", "*")
        .set("buckets.b.s3.endpoints", &format!("http://localhost:{}", upstream.address().port()))
        .set("buckets.b.s3.addressing", "virtual")
        .set("server.workers", "1")
}

async fn send_request(gateway: &Gateway, method: &str, target: &str) -> Response {
    let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"body");
    request(gateway.address(), method, target, &[], body).await
}

/// R3: a request on the wrong connection is sent again on a new one
#[tokio::test]
async fn a_misdirected_request_gets_its_own_connection() {
    let upstream = one_host_per_connection();
    let gateway = virtual_hosts(&upstream).start().await;
    assert_eq!(send_request(&gateway, "GET", "/one/k").await.complete_status(), 200);
    for method in ["GET", "HEAD", "DELETE", "PUT"] {
        let before = upstream.count();
        assert_eq!(send_request(&gateway, method, "/two/k").await.complete_status(), 200, "{method}");
        let [refused, served] = &upstream.seen()[before..] else {
            panic!("{method}: not exactly two attempts")
        };
        assert_eq!(refused.connection, 1, "{method}: the first attempt shares a connection");
        assert_ne!(served.connection, 1, "{method}");
        assert_eq!(served.header("connection"), Some("close"), "{method}");
        assert_eq!((&served.target, &served.body), (&refused.target, &refused.body), "{method}");
        let line = gateway
            .wait_for_log_line("request", |line| line["method"] == method && line["path"] == "/two/k")
            .await;
        assert_eq!((line["status"].as_u64(), line["attempts"].as_u64()), (Some(200), Some(2)), "{line}");
        assert_eq!(send_request(&gateway, "GET", "/one/k").await.complete_status(), 200);
        assert_eq!(upstream.last().connection, 1, "{method}: the shared connection is kept");
    }
    let conditional = [("if-none-match", "*"), ("amz-sdk-request", "attempt=2; max=3")];
    let answer = request(gateway.address(), "PUT", "/two/k", &conditional, Some(b"x")).await;
    assert_eq!(answer.complete_status(), 200, "a 421 was not processed, so a conditional request is retried");
    gateway.wait_until_idle().await;
    assert_eq!(gateway.metric("s3_retry_success_total{bucket=\"b\"}").await, 5.0);
}

/// R3, R5, B3: once, only for replayable requests, and counted against no circuit, endpoint or credential
#[tokio::test]
async fn a_store_that_misdirects_everything_gets_two_attempts_and_no_failure() {
    let upstream = Upstream::start(|_| UpstreamReply::new(421, "misdirected"));
    let gateway = virtual_hosts(&upstream)
        .set("buckets.b.s3.credentials.one.access_key_id", "ONE")
        .set("buckets.b.s3.credentials.one.secret_access_key", "one")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "3")
        .start()
        .await;
    let answer = send_request(&gateway, "GET", "/b/k").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (421, "misdirected"));
    assert_eq!(upstream.count(), 2);
    assert_eq!(send_request(&gateway, "POST", "/b/k?uploads").await.complete_status(), 421);
    assert_eq!(upstream.count(), 3, "a POST is not sent again");
    let large = vec![b'x'; 300_000];
    assert_eq!(request(gateway.address(), "PUT", "/b/k", &[], Some(&large)).await.complete_status(), 421);
    assert_eq!(upstream.count(), 4, "neither is a streamed body");
    for _ in 0..10 {
        assert_eq!(send_request(&gateway, "GET", "/b/k").await.complete_status(), 421);
    }
    assert_eq!(gateway.metric("circuit_breaker_state{bucket=\"b\",class=\"read\"}").await, 0.0);
    assert_eq!(gateway.metric("circuit_breaker_failures{bucket=\"b\",class=\"read\"}").await, 0.0);
    assert!(gateway.metric("s3_retry_exhausted_total{bucket=\"b\"}").await >= 1.0);
    let metrics = gateway.metrics().await;
    let checks =
        metrics.lines().filter(|line| line.starts_with("tidegate_upstream_credential_checks_total{"));
    assert!(checks.clone().count() > 0 && checks.into_iter().all(|line| line.ends_with(" 0")), "{metrics}");
}

/// R3: with one configured attempt there is no second
#[tokio::test]
async fn one_configured_attempt_is_not_repeated() {
    let upstream = one_host_per_connection();
    let gateway = virtual_hosts(&upstream).set("buckets.b.s3.retry.max_attempts", "1").start().await;
    assert_eq!(send_request(&gateway, "GET", "/one/k").await.complete_status(), 200);
    assert_eq!(send_request(&gateway, "GET", "/two/k").await.complete_status(), 421);
    assert_eq!(upstream.count(), 2);
}
