//! Breaker modes: a circuit per class of operations, slow calls, off, shadow and forced open.

use serde_json::json;
use std::time::Duration;

use super::{circuit, circuit_of, opens, start};
use crate::support::{Upstream, UpstreamReply, request, wait_for};

const LISTING: &str = "/b?list-type=2";

/// An upstream with failing listings and healthy objects.
fn cannot_list() -> Upstream {
    Upstream::start(|seen| {
        if seen.target.contains("list-type") { UpstreamReply::status(500) } else { UpstreamReply::ok("x") }
    })
}

/// B1, B2: failing listings do not open the circuits of reads and writes
#[tokio::test]
async fn failing_listings_do_not_affect_reads_and_writes() {
    let upstream = cannot_list();
    let gateway = start(&upstream, &[("failure_threshold", "2")]).await;
    for _ in 0..2 {
        assert_eq!(gateway.get(LISTING).await.complete_status(), 500);
    }
    wait_for("the listings' circuit opens", || async {
        (circuit_of(&gateway, "list").await["state"] == "open").then_some(())
    })
    .await;
    assert_eq!(gateway.get(LISTING).await.reason(), "breaker_open");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(request(gateway.address(), "PUT", "/b/k", &[], Some(b"x")).await.complete_status(), 200);
    assert_eq!(request(gateway.address(), "DELETE", "/b/k", &[], None).await.complete_status(), 200);
    for (class, state) in [("read", 0.0), ("write", 0.0), ("list", 1.0)] {
        let metric = format!("circuit_breaker_state{{bucket=\"b\",class=\"{class}\"}}");
        assert_eq!(gateway.metric(&metric).await, state, "{class}");
    }
}

/// B1: with one circuit per bucket all classes share it
#[tokio::test]
async fn all_classes_may_share_one_circuit() {
    let upstream = cannot_list();
    let gateway = start(&upstream, &[("failure_threshold", "2"), ("per_operation", "false")]).await;
    for _ in 0..2 {
        assert_eq!(gateway.get(LISTING).await.complete_status(), 500);
    }
    wait_for("the circuit opens", || async {
        (circuit_of(&gateway, "all").await["state"] == "open").then_some(())
    })
    .await;
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
    assert_eq!(gateway.metric("circuit_breaker_state{bucket=\"b\",class=\"all\"}").await, 1.0);
}

/// B1: a slow-call rate of half opens the circuit, though all calls succeed
#[tokio::test]
async fn a_slow_call_rate_of_half_opens_the_circuit() {
    let slow = Duration::from_millis(600);
    let upstream = Upstream::start(move |seen| {
        if seen.number % 2 == 0 { UpstreamReply::ok("x") } else { UpstreamReply::ok("x").delayed(slow) }
    });
    let gateway =
        start(&upstream, &[("slow_call_duration_ms", "500"), ("minimum_calls", "6"), ("window_calls", "6")])
            .await;
    for call in 1..=7 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "call {call}");
    }
    opens(&gateway).await;
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
    let circuit = circuit(&gateway).await;
    assert_eq!((&circuit["cause"], &circuit["consecutive_failures"]), (&"slow".into(), &0.into()));
    assert_eq!(circuit["opened_by"], json!({ "rule": "slow_call_rate", "measured": 50, "threshold": 50 }));
}

/// B1: the transfer time of a body does not make a call slow, in either direction
#[tokio::test]
async fn a_long_body_is_not_a_slow_call() {
    let pause = Duration::from_millis(1200);
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_after(pause, "end"));
    let gateway = start(
        &upstream,
        &[("slow_call_duration_ms", "1000"), ("minimum_calls", "1"), ("slow_call_rate_threshold", "1")],
    )
    .await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let mut uploading = crate::support::Client::connect(gateway.address()).await;
    uploading.send("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n").await;
    tokio::time::sleep(pause).await;
    uploading.send(vec![b'x'; 70_000]).await;
    assert_eq!(uploading.response("PUT").await.complete_status(), 200);
    gateway.wait_until_idle().await;
    for class in ["read", "write"] {
        assert_eq!(circuit_of(&gateway, class).await["opened_total"], 0, "{class}");
    }
}

/// B1, B5: a breaker that is off never opens; status and metrics show `off`
#[tokio::test]
async fn a_breaker_that_is_off_never_opens() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = start(&upstream, &[("mode", "off"), ("failure_threshold", "1")]).await;
    for calls in 1..=20 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
        assert_eq!(upstream.count(), calls);
    }
    assert_eq!(gateway.status().await["buckets"]["b"]["breaker"]["mode"], "off");
    assert_eq!(gateway.metric("circuit_breaker_mode{bucket=\"b\"}").await, 1.0);
}

/// B2, B5: in shadow mode the circuit opens and is counted, and every request is still forwarded
#[tokio::test]
async fn a_shadow_breaker_refuses_nothing() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = start(&upstream, &[("mode", "shadow"), ("failure_threshold", "2")]).await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    opens(&gateway).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    assert_eq!(upstream.count(), 7);
    let refused = "circuit_breaker_shadow_refused_total{bucket=\"b\",class=\"read\"}";
    assert_eq!(gateway.metric(refused).await, 5.0);
    assert_eq!(circuit(&gateway).await["opened_total"], 1);
    assert_eq!(gateway.metric("circuit_breaker_mode{bucket=\"b\"}").await, 2.0);
}

/// B2, B5: a circuit that is forced open forwards nothing, and the answer names the reason
#[tokio::test]
async fn a_forced_open_breaker_refuses_everything() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream, &[("mode", "forced_open"), ("timeout_seconds", "7")]).await;
    let refused = gateway.get("/b/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_forced_open"));
    assert!(refused.retry_after().unwrap() >= 7, "{refused:?}");
    assert_eq!(upstream.count(), 0);
    let circuit = circuit(&gateway).await;
    assert_eq!((&circuit["state"], &circuit["open_for_ms"]), (&"open".into(), &serde_json::Value::Null));
    assert_eq!(gateway.metric("circuit_breaker_mode{bucket=\"b\"}").await, 3.0);
}
