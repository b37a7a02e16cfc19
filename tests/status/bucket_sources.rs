//! Causes of one bucket: circuits, endpoints, the queue, credentials, limits in shadow mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{cause_that_refused, causes, gauge, has_begun, has_ended};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// X10, B2, O3: a stopped store opens the circuit; the cause has its end and exactly the refusals that clients received
#[tokio::test]
async fn a_stopped_store_is_a_cause_with_its_refusals() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "3")
        .set("buckets.b.s3.circuit_breaker.connect_probe_interval_ms", "100")
        .start()
        .await;
    assert_eq!(gauge(&gateway, "circuit_open", "b").await, 0.0, "the gauge exists from the start");
    upstream.stop().await;
    let (mut refused, mut failed) = (0, 0);
    while refused < 20 {
        match gateway.get("/b/k").await.reason() {
            "breaker_open" => refused += 1,
            "upstream_connect" => failed += 1,
            other => panic!("unexpected reason {other}"),
        }
    }
    assert_eq!(failed, 3);
    let open = cause_that_refused(&gateway, "circuit_open", refused).await;
    assert_eq!(has_begun(&gateway, "circuit_open", "b").await["since"], open["since"]);
    assert_eq!(open["scope"], json!({ "kind": "bucket", "bucket": "b", "name": "read" }));
    assert!(open["until"].as_str().unwrap() > open["since"].as_str().unwrap(), "{open}");
    assert_eq!(open["threshold"], json!({ "value": 3.0, "unit": "failures in a row" }));
    let message = open["message"].as_str().unwrap();
    assert!(message.starts_with("circuit read of bucket b is open because connections failed"), "{message}");
    let status = gateway.status().await;
    assert_eq!(status["status"], "critical");
    let state = |status: &Value| status["buckets"]["b"]["pool"]["endpoints"][0]["state"].clone();
    assert_eq!(state(&status), "failing", "the only endpoint stays in rotation, and does not serve");

    upstream.start_again().await;
    let half_open = has_begun(&gateway, "circuit_half_open", "b").await;
    assert_eq!(half_open["scope"], json!({ "kind": "bucket", "bucket": "b", "name": "read" }));
    let ended = has_ended(&gateway, "circuit_open", "b").await;
    assert_eq!(ended["refused"], refused, "{ended}");
    wait_for("the circuit closes", || async {
        gateway.get("/b/k").await;
        (gateway.status().await["status"] == "ok").then_some(())
    })
    .await;
    assert_eq!(state(&gateway.status().await), "in_rotation");
    has_ended(&gateway, "circuit_half_open", "b").await;
}

/// X10, P5: a bucket of which all endpoints fail their health checks is unusable; the cause ends with the first good check
#[tokio::test]
async fn a_bucket_without_a_healthy_endpoint_is_a_cause() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.health_check.path", "/healthz")
        .set("buckets.b.s3.health_check.interval_seconds", "0.05")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .start()
        .await;
    upstream.stop().await;
    let out = has_begun(&gateway, "endpoints_out", "b").await;
    assert_eq!((&out["severity"], &out["until"]), (&"critical".into(), &json!(null)));
    assert!(out["message"].as_str().unwrap().contains("fails its health checks"), "{out}");
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.reason(), "upstream_connect");
    }
    cause_that_refused(&gateway, "endpoints_out", 3).await;
    upstream.start_again().await;
    assert_eq!(has_ended(&gateway, "endpoints_out", "b").await["refused"], 3);
}

/// X10, P5: one of two endpoints that is stopped is a cause of its own, and requests are served
#[tokio::test]
async fn a_stopped_endpoint_is_a_cause() {
    let (stopped, running) = (Upstream::ok("x"), Upstream::ok("x"));
    let name = stopped.address().to_string();
    let gateway = Gateway::builder().bucket_at("b", &[stopped.address(), running.address()]).start().await;
    stopped.stop().await;
    let out = wait_for("the endpoint is a cause", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        causes(&gateway, "endpoint_out").await.pop()
    })
    .await;
    assert_eq!(out["scope"], json!({ "kind": "endpoint", "bucket": "b", "name": name }));
    assert_eq!((&out["severity"], &out["effect"]["refused"]), (&"degraded".into(), &0.into()));
    assert!(out["until"].is_string(), "{out}");
    has_begun(&gateway, "endpoint_out", "b").await;
    stopped.start_again().await;
    wait_for("the endpoint is called again", || async {
        gateway.get("/b/k").await;
        causes(&gateway, "endpoint_out").await.is_empty().then_some(())
    })
    .await;
    has_ended(&gateway, "endpoint_out", "b").await;
}

/// X10, P5: the only endpoint of a bucket without a breaker that fails is `failing` and a cause, until a call succeeds
#[tokio::test]
async fn the_only_endpoint_that_fails_is_a_cause() {
    let fails = Arc::new(AtomicBool::new(true));
    let of_store = Arc::clone(&fails);
    let upstream = Upstream::start(move |_| match of_store.load(Ordering::SeqCst) {
        true => UpstreamReply::status(500),
        false => UpstreamReply::ok("x"),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .start()
        .await;
    assert_eq!(gauge(&gateway, "endpoints_failing", "b").await, 0.0, "the gauge exists from the start");
    for _ in 0..8 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    let failing = has_begun(&gateway, "endpoints_failing", "b").await;
    assert_eq!(failing["scope"], json!({ "kind": "bucket", "bucket": "b", "name": null }));
    assert_eq!(failing["threshold"], json!({ "value": 5.0, "unit": "failures in a row" }));
    assert!(failing["message"].as_str().unwrap().contains(&upstream.address().to_string()), "{failing}");
    let status = gateway.status().await;
    assert_eq!((&status["status"], endpoint_states(&status)), (&"critical".into(), vec!["failing"]));
    fails.store(false, Ordering::SeqCst);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    has_ended(&gateway, "endpoints_failing", "b").await;
    let status = gateway.status().await;
    assert_eq!((&status["status"], endpoint_states(&status)), (&"ok".into(), vec!["in_rotation"]));
}

fn endpoint_states(status: &Value) -> Vec<&str> {
    let endpoints = status["buckets"]["b"]["pool"]["endpoints"].as_array().unwrap().iter();
    endpoints.map(|endpoint| endpoint["state"].as_str().unwrap()).collect()
}

/// X10, P5: two endpoints that both fail are one cause of the bucket, whether they are in rotation or one is ejected
#[tokio::test]
async fn endpoints_that_all_fail_are_a_cause() {
    let upstreams = [Upstream::ok("x"), Upstream::ok("x")];
    let addresses = [upstreams[0].address(), upstreams[1].address()];
    let gateway = Gateway::builder()
        .bucket_at("b", &addresses)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .start()
        .await;
    for upstream in &upstreams {
        upstream.stop().await;
    }
    let out = wait_for("all endpoints fail", || async {
        assert_eq!(gateway.get("/b/k").await.reason(), "upstream_connect");
        causes(&gateway, "endpoints_failing").await.pop()
    })
    .await;
    assert_eq!(out["measured"], json!({ "value": 2.0, "unit": "endpoints" }));
    for address in addresses {
        assert!(out["message"].as_str().unwrap().contains(&address.to_string()), "{out}");
    }
    has_begun(&gateway, "endpoints_failing", "b").await;
    let status = gateway.status().await;
    assert_eq!(status["status"], "critical");
    assert!(endpoint_states(&status).contains(&"failing"), "{status}");
    for upstream in &upstreams {
        upstream.start_again().await;
    }
    wait_for("a call succeeds", || async {
        (gateway.get("/b/k").await.complete_status() == 200).then_some(())
    })
    .await;
    let ended = has_ended(&gateway, "endpoints_failing", "b").await;
    assert!(ended["refused"].is_u64(), "{ended}");
}

/// X10, P3: a full queue is a cause with its refusals, and ends three seconds after the last of them
#[tokio::test]
async fn a_full_queue_is_a_cause() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.max_queued", "0")
        .start()
        .await;
    let mut first = Client::connect(gateway.address()).await;
    first.send(client::message("GET", "/b/held", &[], None)).await;
    upstream.wait_until_in_flight(1).await;
    for _ in 0..7 {
        assert_eq!(gateway.get("/b/k").await.reason(), "queue_full");
    }
    let full = cause_that_refused(&gateway, "queue_overflow", 7).await;
    assert_eq!(full["threshold"]["value"], 0.0, "{full}");
    has_begun(&gateway, "queue_overflow", "b").await;
    latch.open_for_all();
    let ended = has_ended(&gateway, "queue_overflow", "b").await;
    assert_eq!(ended["refused"], 7);
    assert!(ended["lasted_ms"].as_u64().unwrap() >= 3_000, "{ended}");
}

/// X10, C3: a throttled credential is a cause with its end, and all of them make the bucket unusable
#[tokio::test]
async fn throttled_credentials_are_causes() {
    let upstream = Upstream::start(|_| UpstreamReply::status(429).header("retry-after", "5"));
    let gateway = Gateway::builder()
        .http_bucket("b", &upstream)
        .set("buckets.b.http.credentials.one.header", "x-api-key")
        .set("buckets.b.http.credentials.one.value", "first-secret")
        .set("buckets.b.http.credentials.two.header", "x-api-key")
        .set("buckets.b.http.credentials.two.value", "second-secret")
        .set("buckets.b.http.retry.max_attempts", "1")
        .start()
        .await;
    gateway.get("/b/k").await;
    let cooling = has_begun(&gateway, "credential_cooling", "b").await;
    assert_eq!(cooling["scope"]["kind"], "credential");
    assert!(["one", "two"].contains(&cooling["scope"]["name"].as_str().unwrap()), "{cooling}");
    assert!(cooling["until"].is_string(), "{cooling}");
    assert_eq!(gateway.status().await["status"], "degraded");
    wait_for("both are throttled", || async {
        (gateway.get("/b/k").await.reason() == "credentials_throttled").then_some(())
    })
    .await;
    let out = cause_that_refused(&gateway, "credentials_out", 1).await;
    assert_eq!((&out["severity"], &out["scope"]["bucket"]), (&"critical".into(), &"b".into()));
    assert_eq!(out["measured"], json!({ "value": 2.0, "unit": "credentials" }));
    has_begun(&gateway, "credentials_out", "b").await;
    assert_eq!(gauge(&gateway, "credential_cooling", "b").await, 2.0);
    assert_eq!(has_ended(&gateway, "credentials_out", "b").await["refused"], 1);
    has_ended(&gateway, "credential_cooling", "b").await;
    assert!(!gateway.status().await.to_string().contains("-secret"));
}

/// X10, L6: a limit in shadow mode that would have refused requests is a cause that has refused none
#[tokio::test]
async fn a_shadow_limit_is_a_cause() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.rate_limit.requests_per_second", "0.01")
        .set("buckets.b.rate_limit.burst", "2")
        .set("buckets.b.rate_limit.mode", "shadow")
        .start()
        .await;
    for _ in 0..6 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let shadow = has_begun(&gateway, "limit_shadow", "b").await;
    assert_eq!(shadow["scope"], json!({ "kind": "bucket", "bucket": "b", "name": "bucket" }));
    assert_eq!(shadow["measured"], json!({ "value": 4.0, "unit": "requests" }));
    assert_eq!((&shadow["effect"]["refused"], &shadow["severity"]), (&0.into(), &"degraded".into()));
    assert_eq!(has_ended(&gateway, "limit_shadow", "b").await["refused"], 0);
}

/// X10, B2: a circuit that is not closed in shadow mode is a cause that has refused none
#[tokio::test]
async fn a_shadow_circuit_is_a_cause() {
    let fails = Arc::new(AtomicBool::new(true));
    let of_store = Arc::clone(&fails);
    let upstream = Upstream::start(move |_| match of_store.load(Ordering::SeqCst) {
        true => UpstreamReply::status(500),
        false => UpstreamReply::ok("x"),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.timeout_seconds", "0.2")
        .set("buckets.b.s3.circuit_breaker.mode", "shadow")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "2")
        .start()
        .await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    let shadow = has_begun(&gateway, "circuit_shadow", "b").await;
    assert_eq!(shadow["scope"], json!({ "kind": "bucket", "bucket": "b", "name": "read" }));
    assert_eq!((&shadow["severity"], &shadow["effect"]["refused"]), (&"degraded".into(), &0.into()));
    assert_eq!(gauge(&gateway, "circuit_shadow", "b").await, 1.0);
    assert!(causes(&gateway, "circuit_open").await.is_empty());
    fails.store(false, Ordering::SeqCst);
    wait_for("the circuit closes", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        causes(&gateway, "circuit_shadow").await.is_empty().then_some(())
    })
    .await;
    has_ended(&gateway, "circuit_shadow", "b").await;
}

/// X10, C3, O4: a credential that a check of the gateway finds refused is a cause with its end, and a decision with what decided
#[tokio::test]
async fn a_refused_credential_is_a_cause() {
    let is_valid = Arc::new(AtomicBool::new(false));
    let of_store = Arc::clone(&is_valid);
    let upstream = Upstream::start(move |seen| match seen.headers_named("x-api-key")[..] {
        ["first-secret"] if of_store.load(Ordering::SeqCst) => UpstreamReply::ok("x"),
        [] | ["first-secret"] => UpstreamReply::new(401, "no"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = Gateway::builder()
        .http_bucket("b", &upstream)
        .set("buckets.b.http.credentials.one.header", "x-api-key")
        .set("buckets.b.http.credentials.one.value", "first-secret")
        .set("buckets.b.http.credentials.two.header", "x-api-key")
        .set("buckets.b.http.credentials.two.value", "second-secret")
        .set("buckets.b.http.credential_check_path", "/me")
        .set("buckets.b.http.credential_pool.refused_seconds", "5")
        .start()
        .await;
    wait_for("the credential is refused", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "the other one serves");
        causes(&gateway, "credential_refused").await.pop()
    })
    .await;
    let refused = has_begun(&gateway, "credential_refused", "b").await;
    assert_eq!(refused["scope"], json!({ "kind": "credential", "bucket": "b", "name": "one" }));
    assert!(refused["until"].is_string(), "{refused}");
    let found = gateway.admin("/decisions?reason=credential_refused").await;
    let found: Value = serde_json::from_slice(&found.body).unwrap();
    let record = &found["decisions"][0];
    let figures = (&record["measured"], &record["threshold"], &record["unit"]);
    assert_eq!(figures, (&1.into(), &1.into(), &"failures".into()), "{record}");
    assert_eq!(record["detail"], "the upstream refused a check of the gateway");
    assert_eq!(record["config"]["key"], "buckets.b.http.credential_pool.refused_seconds", "{record}");
    assert!(!gateway.status().await.to_string().contains("-secret"));
    is_valid.store(true, Ordering::SeqCst);
    wait_for("the credential is accepted in a trial", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        causes(&gateway, "credential_refused").await.is_empty().then_some(())
    })
    .await;
    has_ended(&gateway, "credential_refused", "b").await;
}

/// X10, P8: a name without an address is a cause with its refusals
#[tokio::test]
async fn a_name_without_an_address_is_a_cause() {
    let gateway = Gateway::builder()
        .set("buckets.b.auth", "anonymous")
        .set("buckets.b.s3.endpoints", "http://nowhere.invalid:9000")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.reason(), "upstream_dns");
    let unresolved = has_begun(&gateway, "upstream_unresolved", "b").await;
    let scope = json!({ "kind": "endpoint", "bucket": "b", "name": "nowhere.invalid:9000" });
    assert_eq!(unresolved["scope"], scope, "{unresolved}");
    assert!(unresolved["message"].as_str().unwrap().contains("no address of it is known"), "{unresolved}");
    assert_eq!(unresolved["threshold"], json!({ "value": 1.0, "unit": "failed lookups in a row" }));
}
