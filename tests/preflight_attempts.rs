//! Attempts of a CORS preflight that is forwarded: a store gets it at most once, and none while the gateway sheds load.

use crate::metrics::series;
use crate::preflights::{preflight, signed};
use crate::support::unreachable::RefusingAddress;
use crate::support::{Gateway, Upstream, UpstreamReply, wait_for};

/// A6, R1, R5: a preflight that was sent has one attempt, whatever the bucket's retries are
#[tokio::test]
async fn a_preflight_has_one_attempt() {
    let upstream = Upstream::start(|_| UpstreamReply::reset());
    let gateway = signed(&upstream).set("buckets.b.s3.retry.max_attempts", "3").start().await;
    let answer = preflight(&gateway, "/b/k", &[]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (502, "upstream_reset"));
    assert_eq!(upstream.count(), 1);
}

/// A6, P5, R1: preflights do not fail because one of two endpoints refuses connections. The endpoint stays in rotation
#[tokio::test]
async fn a_refused_connection_moves_a_preflight_to_another_endpoint() {
    let refusing = RefusingAddress::new();
    let good = Upstream::ok("");
    let gateway = Gateway::builder()
        .bucket_at("b", &[refusing.address, good.address()])
        .set("buckets.b.s3.retry.initial_backoff_ms", "1")
        .start()
        .await;
    // More than the retry budget holds: preflights spend none of it.
    for number in 1..=300 {
        let answer = preflight(&gateway, "/b/k", &[]).await;
        assert_eq!((answer.complete_status(), good.count()), (200, number), "{}", answer.text());
    }
    gateway.wait_until_idle().await;
    let bucket = gateway.status().await["buckets"]["b"].clone();
    assert_eq!(bucket["breaker"]["read"]["consecutive_failures"], 0, "{bucket}");
    for endpoint in bucket["pool"]["endpoints"].as_array().unwrap() {
        assert_eq!((&endpoint["state"], &endpoint["ejections"]), (&"in_rotation".into(), &0.into()));
    }
    assert!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await > 0.0);
}

/// A6, R2: two refused connections end a preflight, and `retry.max_attempts = 1` allows no second endpoint
#[tokio::test]
async fn a_preflight_is_tried_at_two_endpoints_at_most() {
    let refusing = [RefusingAddress::new(), RefusingAddress::new(), RefusingAddress::new()];
    for (attempts, retries) in [("3", Some(1.0)), ("1", None)] {
        let gateway = Gateway::builder()
            .bucket_at("b", &refusing.each_ref().map(|endpoint| endpoint.address))
            .set("buckets.b.s3.retry.initial_backoff_ms", "1")
            .set("buckets.b.s3.retry.max_attempts", attempts)
            .start()
            .await;
        let answer = preflight(&gateway, "/b/k", &[]).await;
        assert_eq!((answer.complete_status(), answer.reason()), (502, "upstream_connect"));
        let counted = series(&gateway.metrics().await);
        assert_eq!(counted.get("tidegate_s3_retry_attempts_total{bucket=\"b\"}").copied(), retries);
    }
}

/// A6, X2: at `exhausted` preflights are shed like other requests, those of the store and those of the gateway's rules
#[tokio::test]
async fn preflights_are_shed_at_exhausted() {
    let upstream = Upstream::ok("");
    let gateway = signed(&upstream)
        .bucket("rules", &upstream)
        .set("buckets.rules.cors.allowed_origins", "https://app.example.com")
        .set("buckets.rules.cors.allowed_methods", "PUT")
        .set("buckets.rules.cors.allowed_headers", "*")
        .exhaust_at_half_of_descriptors()
        .start()
        .await;
    for target in ["/b/k", "/rules/k"] {
        assert_eq!(preflight(&gateway, target, &[]).await.complete_status(), 200, "{target}");
    }
    assert_eq!(upstream.count(), 1);
    gateway.exhaust_descriptors();
    wait_for("the level is exhausted", || async {
        (gateway.status().await["level"] == "exhausted").then_some(())
    })
    .await;
    for target in ["/b/k", "/rules/k"] {
        let answer = preflight(&gateway, target, &[]).await;
        assert_eq!((answer.complete_status(), answer.reason()), (503, "exhausted"), "{target}");
        assert!(answer.retry_after().is_some(), "{target}");
    }
    assert_eq!(upstream.count(), 1);
}
