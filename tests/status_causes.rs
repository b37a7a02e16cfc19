//! The word and the causes of the status document, and readiness: the view of operators and load balancers in an outage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::status::{has_begun, has_ended};
use crate::supervision::restart_delay::hold_down;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, wait_for};

/// Waits for a cause; returns the status and the cause.
async fn cause(gateway: &Gateway, code: &str) -> (String, Value) {
    wait_for(&format!("the status names {code}"), || async {
        let status = gateway.status().await;
        let cause = status["causes"].as_array().unwrap().iter().find(|cause| cause["code"] == code)?.clone();
        Some((status["status"].as_str().unwrap().to_owned(), cause))
    })
    .await
}

/// Both readiness paths: their statuses, and the reason in the body.
async fn ready(gateway: &Gateway) -> ([u16; 2], String) {
    let (data, admin) = (gateway.get("/-/readyz").await, gateway.admin("/readyz").await);
    let document: Value = serde_json::from_slice(&data.body).unwrap();
    (
        [data.complete_status(), admin.complete_status()],
        document["reason"].as_str().unwrap_or_default().to_owned(),
    )
}

fn limited(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("admin.chaos", "true")
        .set("rate_limit.per_ip.requests_per_second", "1000")
}

/// X10, O5: without a fault the status is ok and has no cause
#[tokio::test]
async fn a_healthy_gateway_is_ok() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let status = gateway.status().await;
    assert_eq!((&status["status"], &status["causes"]), (&"ok".into(), &Value::Array(Vec::new())));
    let text = gateway.admin("/status").await.text();
    assert!(text.starts_with("{\"status\":\"ok\",\"summary\":\"No cause"), "it begins with the word: {text}");
    assert_eq!(status["summary"], "No cause of degradation is present.");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ready(&gateway).await, ([200, 200], String::new()));
}

/// X10, O5: a limiter in a crash storm refuses everything, so only this process is not ready
#[tokio::test]
async fn a_failed_limiter_is_a_cause_and_not_ready() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream).start().await;
    hold_down(&gateway, "limiter").await;
    let (word, limiter) = cause(&gateway, "limiter_failed").await;
    assert_eq!((word.as_str(), &limiter["scope"]["name"]), ("critical", &"limiter".into()), "{limiter}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 503);
    assert_eq!(ready(&gateway).await, ([503, 503], "limiter_failed".to_owned()));
    assert_eq!(gateway.get("/-/livez").await.complete_status(), 200);
    wait_for("it is ready again", || async { (ready(&gateway).await.0 == [200, 200]).then_some(()) }).await;
}

/// X10, O5: a failed limiter with `on_failure = pass` leaves the process ready
#[tokio::test]
async fn a_failed_limiter_that_passes_requests_leaves_it_ready() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream).set("rate_limit.on_failure", "pass").start().await;
    hold_down(&gateway, "limiter").await;
    let bypassed = has_begun(&gateway, "limiter_bypassed", "process").await;
    assert_eq!(bypassed["scope"]["name"], "limiter", "{bypassed}");
    assert_eq!(gateway.status().await["status"], "degraded");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(ready(&gateway).await.0, [200, 200]);
    assert_eq!(has_ended(&gateway, "limiter_bypassed", "process").await["refused"], 0);
}

/// X10, O5: an open circuit is a cause, but readiness stays, because all replicas share the store
#[tokio::test]
async fn an_open_circuit_is_a_cause_and_ready() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "2")
        .start()
        .await;
    wait_for("the circuit opens", || async {
        (gateway.get("/b/k").await.reason() == "breaker_open").then_some(())
    })
    .await;
    let (word, circuit) = cause(&gateway, "circuit_open").await;
    assert_eq!((word.as_str(), &circuit["scope"]["bucket"]), ("critical", &"b".into()), "{circuit}");
    assert_eq!(ready(&gateway).await.0, [200, 200]);
}

/// X10, O5: a store that accepts connections and never answers is a cause before the first timeout
#[tokio::test]
async fn a_frozen_store_is_a_cause_and_ready() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.timeout", "8")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .start()
        .await;
    let pending = tokio::spawn({
        let address = gateway.address();
        async move { crate::support::get(address, "/b/k").await }
    });
    let frozen = has_begun(&gateway, "upstream_unresponsive", "b").await;
    assert!(!pending.is_finished(), "the request still waits");
    assert_eq!(frozen["measured"], json!({ "value": 1.0, "unit": "calls" }), "{frozen}");
    assert_eq!(gateway.status().await["status"], "degraded");
    assert!(frozen["since_ms"].as_u64().unwrap() >= 2000, "at a quarter of the timeout: {frozen}");
    assert_eq!(ready(&gateway).await.0, [200, 200]);
    assert_eq!(pending.await.unwrap().complete_status(), 504);
    has_ended(&gateway, "upstream_unresponsive", "b").await;
}

/// X10: between the calls to a store that never answers, the cause stays until a call is answered
#[tokio::test]
async fn a_frozen_store_is_a_cause_between_its_calls() {
    let hangs = Arc::new(AtomicBool::new(true));
    let of_store = Arc::clone(&hangs);
    let upstream = Upstream::start(move |_| match of_store.load(Ordering::SeqCst) {
        true => UpstreamReply::hang(),
        false => UpstreamReply::ok("x"),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.timeout", "1")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "100")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 504);
    let events_of = |status: &Value, kind: &str| {
        let events = status["events"].as_array().unwrap().iter();
        events.filter(|event| event["change"] == kind).count()
    };
    for calls in 2..=6 {
        // No call is in flight now.
        let (word, silent) = cause(&gateway, "upstream_unresponsive").await;
        assert_ne!(word, "ok");
        assert!(silent["message"].as_str().unwrap().contains("timed out"), "{silent}");
        assert_eq!(gateway.get("/b/k").await.complete_status(), 504, "call {calls}");
    }
    let failing = has_begun(&gateway, "endpoints_failing", "b").await;
    assert_eq!(failing["threshold"], json!({ "value": 5.0, "unit": "failures in a row" }), "{failing}");
    let status = gateway.status().await;
    assert_eq!(status["status"], "critical", "the circuit is closed: {status}");
    assert_eq!(events_of(&status, "ended"), 0, "the cause did not end between the calls: {status}");
    hangs.store(false, Ordering::SeqCst);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    has_ended(&gateway, "upstream_unresponsive", "b").await;
    has_ended(&gateway, "endpoints_failing", "b").await;
    assert_eq!(gateway.status().await["status"], "ok");
}

async fn short_of_descriptors(builder: Builder) -> Gateway {
    let gateway = builder.exhaust_at_half_of_descriptors().start().await;
    gateway.exhaust_descriptors();
    gateway
}

/// X10, O4, O5: an `exhausted` refusal has no figures; the log line and the status have them; readiness stays 200
#[tokio::test]
async fn exhausted_shows_its_figures_only_to_the_operator() {
    let upstream = Upstream::ok("x");
    let gateway = short_of_descriptors(Gateway::builder().bucket("b", &upstream)).await;
    let refused = wait_for("requests are shed", || async {
        let answer = gateway.get("/b/k").await;
        (answer.complete_status() == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.reason(), "exhausted");
    assert!(refused.retry_after().is_some());
    let text = refused.text();
    assert!(!text.contains('%') && !text.contains("descriptor"), "{text}");
    let line = gateway.wait_for_access_line(refused.header("x-request-id").unwrap()).await;
    assert!(line["detail"].as_str().unwrap().contains("descriptors at"), "{line}");
    let (word, level) = cause(&gateway, "exhausted").await;
    assert_eq!(word, "critical");
    assert!(level["measured"]["value"].as_f64().unwrap() >= level["threshold"]["value"].as_f64().unwrap());
    assert!(level["message"].as_str().unwrap().contains("descriptors at"), "{level}");
    assert_eq!(ready(&gateway).await.0, [200, 200]);
}

/// O5: with `server.ready_when_exhausted` off, readiness is 503 at `exhausted`
#[tokio::test]
async fn exhausted_may_be_configured_as_not_ready() {
    let upstream = Upstream::ok("x");
    let gateway = short_of_descriptors(
        Gateway::builder().bucket("b", &upstream).set("server.ready_when_exhausted", "false"),
    )
    .await;
    cause(&gateway, "exhausted").await;
    assert_eq!(ready(&gateway).await, ([503, 503], "exhausted".to_owned()));
}

/// X10, O4: a refusal for lack of slots or queue space contains no load figures
#[tokio::test]
async fn capacity_refusals_show_no_load() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    for (key, value, reason) in [
        ("server.max_concurrent_requests", "1", "too_many_requests_in_flight"),
        ("buckets.b.s3.concurrency.max_concurrent", "1", "queue_full"),
    ] {
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set(key, value)
            .set("buckets.b.s3.concurrency.max_queued", "0")
            .start()
            .await;
        let before = upstream.count();
        let mut held = Client::connect(gateway.address()).await;
        held.send(client::message("GET", "/b/held", &[], None)).await;
        wait_for("the permit is taken", || async { (upstream.count() > before).then_some(()) }).await;
        let refused = gateway.get("/b/k").await;
        assert_eq!((refused.complete_status(), refused.reason()), (503, reason));
        let message = refused.element("Message").unwrap();
        assert!(!message.contains(|c: char| c.is_ascii_digit()), "{reason}: {message}");
        let line = gateway.wait_for_access_line(refused.header("x-request-id").unwrap()).await;
        assert!(line["detail"].as_str().unwrap().contains("in flight"), "{line}");
    }
}
