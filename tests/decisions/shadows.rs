//! Requests that pass only because of a shadow mode have records with the figures of the refusals.

use serde_json::Value;

use super::{decision, decisions, document, id};
use crate::auth::signer::Signer;
use crate::support::{Gateway, Response, Upstream, UpstreamReply, request};

/// The records of the refusals that shadow mode suppressed for a request.
async fn shadows(gateway: &Gateway, answer: &Response) -> Vec<Value> {
    let found = decisions(gateway, &format!("request_id={}", id(answer))).await;
    let mut found: Vec<Value> = found.into_iter().filter(|one| one["kind"] == "shadow").collect();
    found.sort_by_key(|one| one["order"].as_u64());
    for one in &found {
        assert_eq!(one["shadow"], true, "{one}");
        assert!(one["until"].is_string() && one["actor"]["generation"].is_u64(), "{one}");
    }
    found
}

fn reasons(shadows: &[Value]) -> String {
    shadows.iter().map(|one| one["reason"].as_str().unwrap()).collect::<Vec<_>>().join(", ")
}

/// O4, L6: each limit in shadow mode that would have refused a request has a record, with the figures of the refusal
#[tokio::test]
async fn a_shadow_limit_has_the_figures_of_its_refusal() {
    let upstream = Upstream::ok("x");
    let limited = |builder: crate::support::gateway::Builder, section: &str, burst: &str| {
        builder
            .set(&format!("{section}.requests_per_second"), "0.001")
            .set(&format!("{section}.burst"), burst)
            .set(&format!("{section}.mode"), "shadow")
    };
    let builder = limited(Gateway::builder().bucket("b", &upstream), "rate_limit.per_ip", "2");
    let gateway = limited(builder, "buckets.b.rate_limit", "1").start().await;
    for expected in ["", "rate_limit_bucket", "rate_limit_ip, rate_limit_bucket"] {
        let answer = gateway.get("/b/k").await;
        assert_eq!(answer.complete_status(), 200);
        assert_eq!(answer.header("x-tidegate-shadow").unwrap_or_default(), expected);
        let found = shadows(&gateway, &answer).await;
        assert_eq!(reasons(&found), expected, "{found:?}");
        for one in &found {
            let (scope, burst, key) = match one["reason"].as_str().unwrap() {
                "rate_limit_ip" => ("client_address", 2, "rate_limit.per_ip.burst"),
                _ => ("bucket", 1, "buckets.b.rate_limit.burst"),
            };
            assert_eq!((&one["scope"], &one["status"]), (&scope.into(), &429.into()), "{one}");
            assert_eq!((&one["measured"], &one["threshold"]), (&0.into(), &burst.into()), "{one}");
            assert_eq!((&one["unit"], &one["config"]["key"]), (&"tokens".into(), &key.into()), "{one}");
            assert_eq!(one["actor"]["name"], "limiter", "{one}");
        }
    }
    let counts = document(&gateway, "limit=1").await["counts"].as_array().unwrap().clone();
    let count = |reason: &str| {
        let of = counts.iter().find(|one| one["kind"] == "shadow" && one["reason"] == reason);
        of.map(|one| one["count"].as_u64().unwrap())
    };
    assert_eq!((count("rate_limit_ip"), count("rate_limit_bucket")), (Some(1), Some(2)), "{counts:?}");
}

/// O4, L6, L8: the same for the limits of a key and of failed authentications
#[tokio::test]
async fn shadow_limits_of_keys_and_failures_have_records() {
    let upstream = Upstream::ok("x");
    let mut builder = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("keys.k.access_key_id", "READER")
        .set("keys.k.secret", "a-secret-of-the-reader")
        .set("keys.k.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read");
    for section in ["rate_limit.per_key", "rate_limit.failed_auth"] {
        builder = builder
            .set(&format!("{section}.requests_per_second"), "0.001")
            .set(&format!("{section}.burst"), "1")
            .set(&format!("{section}.mode"), "shadow");
    }
    let gateway = builder.start().await;
    for (signer, status, reason, scope, key) in [
        (
            Signer::new("READER", "a-secret-of-the-reader"),
            200,
            "rate_limit_key",
            "client_key",
            "rate_limit.per_key.burst",
        ),
        (
            Signer::new("NOBODY", "x"),
            403,
            "rate_limit_failed_auth",
            "client_address",
            "rate_limit.failed_auth.burst",
        ),
    ] {
        for expected in ["", reason] {
            let headers = signer.headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let answer = request(gateway.address(), "GET", "/b/k", &headers, None).await;
            assert_eq!(answer.complete_status(), status, "{answer:?}");
            let found = shadows(&gateway, &answer).await;
            assert_eq!(reasons(&found), expected, "{found:?}");
            for one in &found {
                assert_eq!((&one["scope"], &one["config"]["key"]), (&scope.into(), &key.into()), "{one}");
                assert_eq!((&one["measured"], &one["threshold"]), (&0.into(), &1.into()), "{one}");
            }
        }
    }
}

/// O4, B2: a request to an open circuit in shadow mode has one record, whatever its attempts, with the rule that opened the circuit
#[tokio::test]
async fn a_shadow_circuit_has_the_figures_of_its_rule() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.circuit_breaker.mode", "shadow")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "1")
        .set("buckets.b.s3.retry.max_attempts", "2")
        .set("buckets.b.s3.retry.initial_backoff_ms", "1")
        .start()
        .await;
    gateway.get("/b/k").await;
    let opened = decision(&gateway, "reason=circuit_opened&bucket=b").await;
    let before = upstream.count();
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), upstream.count() - before), (500, 2));
    assert_eq!(answer.header("x-tidegate-shadow"), Some("breaker_open"));
    let found = shadows(&gateway, &answer).await;
    assert_eq!(reasons(&found), "breaker_open", "{found:?}");
    let record = &found[0];
    assert_eq!((&record["scope"], &record["status"]), (&"bucket".into(), &503.into()), "{record}");
    for figure in ["measured", "threshold", "unit", "config"] {
        assert_eq!(record[figure], opened[figure], "{record}\n{opened}");
    }
    assert_eq!((&record["measured"], &record["threshold"]), (&1.into(), &1.into()), "{record}");
    assert_eq!(record["actor"]["name"], "breaker:b", "{record}");
}
