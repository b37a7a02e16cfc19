//! The default restart intensity: an actor that crashes too often is restarted with a delay, and its effect on
//! requests.

use std::time::{Duration, Instant};

use crate::support::{Gateway, Upstream, UpstreamReply, request, wait_for};

/// Five restarts are immediate; then the delays are 100, 200, 400, 800, 1600 and 3200 ms.
const CRASHES: usize = 11;

/// Crashes an actor until its restart delay is seconds long, which leaves the test time for its checks.
pub(crate) async fn hold_down(gateway: &Gateway, actor: &str) {
    crash_often(gateway, actor).await;
    is_held_down(gateway, actor).await;
}

async fn crash_often(gateway: &Gateway, actor: &str) {
    for _ in 0..CRASHES {
        gateway.crash(actor, "decide").await;
    }
}

/// Whether the actor is in its restart delay.
pub(super) async fn is_failed(gateway: &Gateway, actor: &str) -> bool {
    gateway.actor(actor).await["state"] == "failed"
}

async fn is_held_down(gateway: &Gateway, actor: &str) {
    wait_for(&format!("{actor} is held down"), || async {
        let actor = gateway.actor(actor).await;
        let left = actor["retry_after_ms"].as_u64().unwrap_or(0);
        (actor["state"] == "failed" && left > 2000).then_some(())
    })
    .await;
}

/// Waits until the actor runs again without intervention.
async fn recovers(gateway: &Gateway, actor: &str) {
    wait_for(&format!("{actor} runs again"), || async {
        let stats = gateway.actor(actor).await;
        let all = u64::try_from(CRASHES).unwrap();
        (stats["state"] == "running" && stats["restarts"].as_u64().unwrap() >= all).then_some(())
    })
    .await;
    assert_eq!(gateway.metric(&format!("actor_state{{actor=\"{actor}\"}}")).await, 0.0);
}

/// S3, S4: a failed limiter refuses exactly the requests with a limit, and recovers by itself
#[tokio::test]
async fn a_failed_limiter_refuses_limited_requests() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("limited", &upstream)
        .bucket("free", &upstream)
        .set("admin.chaos", "true")
        .set("buckets.limited.rate_limit.requests_per_second", "1000")
        .start()
        .await;
    hold_down(&gateway, "limiter").await;
    let answer = gateway.get("/limited/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "limiter_unavailable"));
    assert!((1..=5).contains(&answer.retry_after().unwrap()), "until the actor restarts: {answer:?}");
    assert_eq!(gateway.get("/free/k").await.complete_status(), 200);
    assert_eq!(upstream.count(), 1, "the refused request was forwarded");
    assert_eq!(gateway.metric("actor_state{actor=\"limiter\"}").await, 2.0);
    let rejected = gateway.metric("actor_messages_rejected_total{actor=\"limiter\",reason=\"failed\"}").await;
    assert!(rejected >= 1.0);
    recovers(&gateway, "limiter").await;
    assert_eq!(gateway.get("/limited/k").await.complete_status(), 200);
}

/// S4: with `rate_limit.on_failure = pass` a failed limiter admits requests
#[tokio::test]
async fn a_failed_limiter_admits_if_configured() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("admin.chaos", "true")
        .set("rate_limit.on_failure", "pass")
        .set("rate_limit.global.requests_per_second", "0.001")
        .set("rate_limit.global.burst", "1")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.get("/b/k").await.reason(), "rate_limit_global");
    hold_down(&gateway, "limiter").await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    recovers(&gateway, "limiter").await;
    assert_eq!(gateway.get("/b/k").await.reason(), "rate_limit_global", "the limit is in force again");
}

/// S3, S4: a failed pool is 503 for its bucket and for no other
#[tokio::test]
async fn a_failed_pool_refuses_its_own_bucket_only() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("a", &upstream)
        .bucket("b", &upstream)
        .set("admin.chaos", "true")
        .start()
        .await;
    hold_down(&gateway, "pool:a").await;
    let answer = gateway.get("/a/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "pool_unavailable"));
    assert!((1..=5).contains(&answer.retry_after().unwrap()), "{answer:?}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.actor("pool:b").await["restarts"], 0);
    recovers(&gateway, "pool:a").await;
    assert_eq!(gateway.get("/a/k").await.complete_status(), 200);
    gateway.wait_until_idle().await;
}

/// S4: with a failed session cache every session is verified again, and requests are served
#[tokio::test]
async fn a_failed_session_cache_is_a_miss() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.chaos", "true").start().await;
    let ask = || request(gateway.address(), "GET", "/b/k", &[("x-tidegate-session", "s-1")], None);
    assert_eq!(ask().await.complete_status(), 200);
    hold_down(&gateway, "sessions").await;
    assert_eq!(ask().await.complete_status(), 200);
    assert_eq!(gateway.status().await["sessions"], serde_json::Value::Null, "the cache does not answer");
    recovers(&gateway, "sessions").await;
    assert_eq!(ask().await.complete_status(), 200);
    assert_eq!(gateway.status().await["sessions"]["entries"], 1);
}

/// S4: while the breaker is failed its published state is used: closed circuits serve, open ones refuse
#[tokio::test]
async fn a_failed_breakers_published_state_is_used() {
    let good = Upstream::ok("x");
    let bad = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = Gateway::builder()
        .bucket("good", &good)
        .bucket("bad", &bad)
        .set("admin.chaos", "true")
        .set("buckets.bad.s3.retry.max_attempts", "1")
        .start()
        .await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/bad/k").await.complete_status(), 500);
    }
    crash_often(&gateway, "breaker").await;
    is_held_down(&gateway, "breaker:bad").await;
    is_held_down(&gateway, "breaker:good").await;
    assert_eq!(gateway.get("/good/k").await.complete_status(), 200);
    let refused = gateway.get("/bad/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_open"));
    assert!(
        refused.retry_after().unwrap() > 30,
        "the circuit's open time, not the actor's delay: {refused:?}"
    );
    assert_eq!(bad.count(), 5);
    recovers(&gateway, "breaker:bad").await;
    recovers(&gateway, "breaker:good").await;
    assert_eq!(gateway.get("/good/k").await.complete_status(), 200);
    assert_eq!(gateway.get("/bad/k").await.reason(), "breaker_open", "and it is still open");
}

/// S4: while the monitor is failed the last level is used, the age of its readings grows, and requests are served
#[tokio::test]
async fn a_failed_monitors_last_level_is_used_and_ages() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.chaos", "true").start().await;
    hold_down(&gateway, "monitor").await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let age = |status: &serde_json::Value| status["resources"]["memory"]["age_ms"].as_u64();
    wait_for("the readings are shown as stale", || async {
        let status = gateway.status().await;
        assert_eq!(status["level"], "normal");
        (age(&status)? > 1000 && status["stale"] == true).then_some(())
    })
    .await;
    recovers(&gateway, "monitor").await;
    wait_for("readings are fresh again", || async {
        (gateway.status().await["stale"] == false).then_some(())
    })
    .await;
}

/// S3: restart delays grow, so a permanently crashing actor causes no busy loop
#[tokio::test]
async fn a_permanently_crashing_actor_is_not_a_busy_loop() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.chaos", "true").start().await;
    let began = Instant::now();
    for _ in 0..30 {
        gateway.crash("limiter", "decide").await;
    }
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let restarts = gateway.actor("limiter").await["restarts"].as_u64().unwrap();
    // Five immediate ones, then those after delays of 100, 200, 400 ms and so on, up to a tenth shorter.
    let (mut most, mut delay_ms, mut passed_ms) = (5, 90, 90);
    while passed_ms <= began.elapsed().as_millis() {
        (most, delay_ms) = (most + 1, delay_ms * 2);
        passed_ms += delay_ms;
    }
    assert!((6..=most + 1).contains(&restarts), "{restarts} restarts, at most {most} by their delays");
    assert_eq!(
        gateway.get("/b/k").await.complete_status(),
        200,
        "a bucket without a limit does not need the limiter"
    );
}
