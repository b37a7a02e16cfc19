//! Crash storms: no limit, open circuit or gate is bypassed.

use std::time::{Duration, Instant};

use super::{Load, PLACES, count, others};
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, get};

/// S5, L2: in a storm of crashes at every point the upstream gets no request beyond rate · t + burst
#[tokio::test]
async fn a_storm_admits_nothing_beyond_the_limit() {
    const RATE: f64 = 30.0;
    const BURST: f64 = 10.0;
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("supervision.window_seconds", "0.001")
        .set("buckets.b.rate_limit.requests_per_second", &RATE.to_string())
        .set("buckets.b.rate_limit.burst", &BURST.to_string())
        .start()
        .await;
    let began = Instant::now();
    let load = Load::start(&gateway, 4, "/b/k", &[]);
    // A crash in mid-write spends every burst, so the first half of the storm keeps the state clean: tokens restored by
    // a restart would be visible here.
    for places in [["decide", "timer", "started"].as_slice(), PLACES.as_slice()] {
        for round in 0..40 {
            let place = places[round % places.len()];
            gateway.crash("limiter", place).await;
            if place == "decide" || place == "apply" {
                gateway.crash_next("limiter", place).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let answers = load.answers().await;
    let most = began.elapsed().as_secs_f64() * RATE + BURST;
    let restarts = gateway.actor("limiter").await["restarts"].as_u64().unwrap();
    let admitted = count(&answers, 200, "");
    assert!(restarts >= 80, "{restarts} restarts");
    assert!(upstream.count() as f64 <= most, "{} were admitted, at most {most} allowed", upstream.count());
    assert_eq!(upstream.count(), admitted);
    assert!(admitted as f64 >= BURST, "less than the burst and the rate was admitted: {admitted}");
    assert!(count(&answers, 429, "rate_limit_bucket") > 0, "the limit was in force");
    let unexplained: Vec<_> = answers
        .iter()
        .filter(|a| a.status != 200 && a.status != 429 && a.reason() != "limiter_unavailable")
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

/// S5: a crash in mid-write restores no spent burst
#[tokio::test]
async fn a_crash_in_mid_write_restores_no_burst() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "5")
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let before = gateway.generation("limiter").await;
    gateway.crash("limiter", "decide").await;
    gateway.wait_for_generation("limiter", before + 1).await;
    assert_eq!(
        gateway.get("/b/k").await.complete_status(),
        200,
        "a crash in decide loses no state and spends no token"
    );
    gateway.crash("limiter", "apply").await;
    gateway.wait_for_generation("limiter", before + 2).await;
    assert_eq!(gateway.get("/b/k").await.reason(), "rate_limit_ip", "rebuilt with the burst spent");
    assert_eq!(upstream.count(), 4);
}

/// S5, B2: an open circuit stays open in crashes at every point, with a true Retry-After, and admits nothing
#[tokio::test]
async fn an_open_circuit_stays_open_in_crashes() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "2")
        .set("buckets.b.s3.circuit_breaker.timeout_seconds", "600")
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    let state = async || gateway.status().await["buckets"]["b"]["breaker"]["read"]["state"].clone();
    crate::support::wait_for("the circuit opens", || async { (state().await == "open").then_some(()) }).await;
    let first = gateway.get("/b/k").await;
    assert_eq!(first.reason(), "breaker_open");
    assert!(first.retry_after().unwrap() >= 590, "{first:?}");
    let open_for_ms =
        async || gateway.status().await["buckets"]["b"]["breaker"]["read"]["open_for_ms"].as_u64().unwrap();
    let mut wait = open_for_ms().await;
    for round in 0..12 {
        let place = PLACES[round % PLACES.len()];
        let before = gateway.generation("breaker:b").await;
        gateway.crash("breaker:b", place).await;
        gateway.wait_for_generation("breaker:b", before + 1).await;
        let answer = gateway.get("/b/k").await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (503, "breaker_open"),
            "after a crash at {place}"
        );
        let next = open_for_ms().await;
        assert!(next <= wait && next > 500_000, "{place}: {next} ms after {wait} ms");
        wait = next;
        assert_eq!(state().await, "open", "{place}");
    }
    assert_eq!(upstream.count(), 2, "the upstream was not called");
    assert_eq!(gateway.metric("circuit_breaker_opened_total{bucket=\"b\",class=\"read\"}").await, 1.0);
}

/// S5, P4: in a storm the gate neither over-grants nor leaks: afterwards exactly its permits are available
#[tokio::test]
async fn a_storm_neither_leaks_nor_over_grants_permits() {
    pool_storm(3, 10).await;
}

/// S5, P3, P4: the same for a wide gate, in which permits pass from one request to the next without a call
#[tokio::test]
async fn a_storm_over_a_wide_gate_neither_leaks_nor_over_grants_permits() {
    pool_storm(64, 70).await;
}

async fn pool_storm(gate: usize, clients: usize) {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| {
        if seen.target == "/b/held" {
            UpstreamReply::ok("x").when_open(&held)
        } else {
            UpstreamReply::ok("x").delayed(Duration::from_millis(5))
        }
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("supervision.window_seconds", "0.001")
        .set("buckets.b.s3.concurrency.max_concurrent", &gate.to_string())
        .set("buckets.b.s3.connection_pool.size", "64")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "30000")
        .start()
        .await;
    let load = Load::start(&gateway, clients, "/b/k", &[]);
    for round in 0..60 {
        let place = PLACES[round % PLACES.len()];
        gateway.crash("pool:b", place).await;
        if place == "decide" || place == "apply" {
            gateway.crash_next("pool:b", place).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answers = load.answers().await;
    let lost = others(&answers, "pool_unavailable");
    assert!(lost.is_empty(), "{lost:?}");
    assert!(count(&answers, 200, "") > 50, "requests ran");
    assert!(
        upstream.peak_in_flight() <= gate,
        "{} at once through a gate of {gate}",
        upstream.peak_in_flight()
    );
    gateway.wait_until_idle().await;

    let address = gateway.address();
    let requests: Vec<_> =
        (0..gate + 2).map(|_| tokio::spawn(async move { get(address, "/b/held").await })).collect();
    upstream.wait_until_in_flight(gate).await;
    crate::support::wait_for("the others queue", || async {
        let pool = &gateway.status().await["buckets"]["b"]["pool"];
        (pool["queued"] == 2 && pool["in_flight"] == gate).then_some(())
    })
    .await;
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(upstream.peak_in_flight(), gate);
    gateway.wait_until_idle().await;
}
