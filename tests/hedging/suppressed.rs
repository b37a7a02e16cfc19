//! Cases in which no hedge is sent, each counted with its cause.

use std::time::Duration;

use super::{Times, first_held, hedged, learn, sent, slow, start, suppressed, won};
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, get, put, request, wait_for, wait_until};

/// Requests a slow target, waits until its hedge is suppressed for this cause, and releases the answer.
async fn assert_not_hedged(
    gateway: &Gateway,
    upstream: &Upstream,
    latch: &Latch,
    cause: &str,
    headers: &[(&str, &str)],
) {
    let (address, before) = (gateway.address(), suppressed(gateway, cause).await);
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let pending = tokio::spawn(async move {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        request(address, "GET", "/b/slow", &headers, None).await
    });
    wait_for("its hedge is suppressed", || async {
        (suppressed(gateway, cause).await > before).then_some(())
    })
    .await;
    assert_eq!((slow(upstream), sent(gateway).await), (1, 0.0), "{cause}");
    latch.open_for_all();
    assert_eq!(pending.await.unwrap().text(), "first", "{cause}");
}

/// Slow targets wait for one latch; the requests that occupy permits beside them wait for another.
fn slow_beside_others(slow: &Latch, others: &Latch) -> Upstream {
    let (held, others) = (slow.clone(), others.clone());
    Upstream::start(move |seen| match seen.target.as_str() {
        "/b/fast" => UpstreamReply::ok("fast"),
        "/b/other" => UpstreamReply::ok("other").when_open(&others),
        _ => UpstreamReply::ok("first").when_open(&held),
    })
}

/// G6: hedging is off by default
#[tokio::test]
async fn nothing_is_hedged_by_default() {
    let latch = Latch::new();
    let upstream = first_held(&latch);
    let gateway = Gateway::in_front_of(&upstream).await;
    for _ in 0..200 {
        assert_eq!(gateway.get("/b/fast").await.complete_status(), 200);
    }
    assert!(!gateway.metrics().await.contains("hedge_first_byte"), "there is no latency estimate");
    let address = gateway.address();
    let pending = tokio::spawn(async move { get(address, "/b/slow").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(slow(&upstream), 1);
    latch.open_for_all();
    assert_eq!(pending.await.unwrap().text(), "first");
}

/// P3: a hedge is sent only if a permit is free at once
#[tokio::test]
async fn a_full_gate_hedges_nothing() {
    let (latch, other) = (Latch::new(), Latch::new());
    let upstream = slow_beside_others(&latch, &other);
    let gateway = start(&upstream, &[("concurrency.max_concurrent", "2")]).await;
    let address = gateway.address();
    let putting = tokio::spawn(async move { put(address, "/b/other", b"x").await });
    upstream.wait_until_in_flight(1).await;
    assert_not_hedged(&gateway, &upstream, &latch, "gate", &[]).await;
    other.open_for_all();
    assert_eq!(putting.await.unwrap().complete_status(), 200);
    assert_eq!(upstream.peak_in_flight(), 2);
}

/// R7: a client's retry is not hedged
#[tokio::test]
async fn a_retrying_client_is_not_hedged() {
    let latch = Latch::new();
    let upstream = first_held(&latch);
    let gateway = start(&upstream, &[]).await;
    assert_not_hedged(&gateway, &upstream, &latch, "client", &[("amz-sdk-request", "attempt=2; max=3")])
        .await;
}

/// B4: trials of a half-open circuit are not hedged; reads are hedged again once it is closed
#[tokio::test]
async fn a_trial_is_not_hedged() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/bad" => UpstreamReply::status(500),
        "/b/slow" => UpstreamReply::ok("first").when_open(&held),
        _ => UpstreamReply::ok("fast"),
    });
    let settings = [
        ("retry.initial_backoff_ms", "0"),
        ("circuit_breaker.failure_threshold", "3"),
        ("circuit_breaker.timeout_seconds", "0.3"),
    ];
    let gateway = start(&upstream, &settings).await;
    assert_eq!(gateway.get("/b/bad").await.status, 500);
    wait_for("the circuit admits a trial", || async {
        let circuit = gateway.status().await["buckets"]["b"]["breaker"]["read"].clone();
        (circuit["opened_total"] == 1 && circuit["open_for_ms"] == 0).then_some(())
    })
    .await;
    assert_not_hedged(&gateway, &upstream, &latch, "breaker", &[]).await;
}

/// X2: at the critical level no hedge is sent, and the status shows the cause
#[tokio::test]
async fn a_critical_level_hedges_nothing() {
    let (latch, other) = (Latch::new(), Latch::new());
    let upstream = slow_beside_others(&latch, &other);
    let builder = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.max_concurrent_requests", "10")
        .set("monitor.warning", "40")
        .set("monitor.critical", "50")
        .set("monitor.interval_ms", "20");
    let gateway = hedged(builder, &[]).start().await;
    learn(&gateway, "/b/fast", "read").await;
    let address = gateway.address();
    let putting: Vec<_> =
        (0..6).map(|_| tokio::spawn(async move { put(address, "/b/other", b"x").await })).collect();
    upstream.wait_until_in_flight(6).await;
    wait_for("the level is critical", || async {
        let status = gateway.status().await;
        let off = status["switched_off"].as_array().unwrap().iter().any(|what| what == "hedges");
        (status["level"] == "critical" && off).then_some(())
    })
    .await;
    assert_not_hedged(&gateway, &upstream, &latch, "level", &[]).await;
    assert_eq!(prevented(&gateway).await, 1);
    other.open_for_all();
    for putting in putting {
        assert_eq!(putting.await.unwrap().complete_status(), 200);
    }
}

/// The hedges that the action `hedges` has prevented, or in shadow mode would have.
async fn prevented(gateway: &Gateway) -> u64 {
    let status = gateway.status().await;
    let action = status["actions"].as_array().unwrap().iter().find(|action| action["name"] == "hedges");
    action.unwrap()["touched"].as_u64().unwrap()
}

/// X11: at the critical level the action `hedges` in shadow mode counts the hedge, which is sent
#[tokio::test]
async fn a_critical_level_in_shadow_mode_hedges_and_counts() {
    let (latch, other) = (Latch::new(), Latch::new());
    let (held, others, times) = (latch.clone(), other.clone(), Times::default());
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/other" => UpstreamReply::ok("other").when_open(&others),
        "/b/slow" if times.count(seen) == 1 => UpstreamReply::ok("first").when_open(&held),
        _ => UpstreamReply::ok("second"),
    });
    let builder = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.max_concurrent_requests", "10")
        .set("monitor.warning", "40")
        .set("monitor.critical", "50")
        .set("monitor.interval_ms", "20")
        .set("actions.hedges.mode", "shadow");
    let gateway = hedged(builder, &[]).start().await;
    learn(&gateway, "/b/fast", "read").await;
    let address = gateway.address();
    let putting: Vec<_> =
        (0..6).map(|_| tokio::spawn(async move { put(address, "/b/other", b"x").await })).collect();
    upstream.wait_until_in_flight(6).await;
    wait_for("the level is critical", || async {
        (gateway.status().await["level"] == "critical").then_some(())
    })
    .await;
    assert_eq!(gateway.get("/b/slow").await.text(), "second");
    assert_eq!((sent(&gateway).await, won(&gateway).await, prevented(&gateway).await), (1.0, 1.0, 1));
    latch.open_for_all();
    other.open_for_all();
    for putting in putting {
        assert_eq!(putting.await.unwrap().complete_status(), 200);
    }
}

/// S5: a crash of the pool's actor during a hedge loses only the hedge; if its state is invalid, the latency estimate
/// starts again
#[tokio::test]
async fn a_crash_costs_the_hedge_alone() {
    let latch = Latch::new();
    let upstream = first_held(&latch);
    let gateway = hedged(Gateway::builder().bucket("b", &upstream).chaos(), &[]).start().await;
    learn(&gateway, "/b/fast", "read").await;
    let address = gateway.address();
    let pending = tokio::spawn(async move { get(address, "/b/slow").await });
    wait_until("the hedge is in flight", || slow(&upstream) == 1).await;
    gateway.crash_next("pool:b", "apply").await;
    wait_for("its hedge was dropped", || async { (suppressed(&gateway, "pool").await == 1.0).then_some(()) })
        .await;
    latch.open_for_all();
    assert_eq!(pending.await.unwrap().text(), "first");
    gateway.wait_until_idle().await;
    assert_eq!((slow(&upstream), won(&gateway).await), (1, 0.0));
    assert_eq!(gateway.metric(&super::p95("read")).await, 0.0, "the latency estimate was reset");
}
