//! Message fingerprints of repeated crashes, full mailboxes, and actor metrics.

use futures_util::future::join_all;

use super::count;
use crate::support::{Gateway, Upstream, wait_for};

/// S6: a message with a fingerprint that crashed the actor twice is refused without a third crash, and reported; others
/// are served
#[tokio::test]
async fn a_message_that_crashed_twice_is_refused_and_reported() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("a", &upstream)
        .bucket("b", &upstream)
        .chaos()
        .set("supervision.window_seconds", "3")
        .set("rate_limit.global.requests_per_second", "1000000")
        .set("rate_limit.global.burst", "1000")
        .start()
        .await;
    for _ in 0..2 {
        gateway.crash_next("limiter", "decide").await;
        assert_eq!(gateway.get("/a/k").await.reason(), "limiter_unavailable");
    }
    let crashed = gateway.actor("limiter").await;
    assert_eq!((&crashed["generation"], &crashed["poisoned"]), (&3.into(), &0.into()));
    let third = gateway.get("/a/k").await;
    assert_eq!((third.complete_status(), third.reason()), (503, "limiter_unavailable"));
    assert!(third.retry_after().is_some());
    assert_eq!(
        gateway.get("/b/k").await.complete_status(),
        200,
        "the same client on another bucket is another message"
    );
    assert_eq!(upstream.count(), 1, "a blocked message was admitted");
    let reported = gateway.actor("limiter").await;
    assert_eq!(
        (&reported["generation"], &reported["poisoned"]),
        (&3.into(), &1.into()),
        "refused without a crash"
    );
    let rejected = "actor_messages_rejected_total{actor=\"limiter\",reason=\"poison\"}";
    assert_eq!(gateway.metric(rejected).await, 1.0);
    gateway
        .wait_for_log_line("message refused: the same fingerprint crashed the actor twice", |line| {
            line["message"] == "limiter.admit"
        })
        .await;
    wait_for("the fingerprint is unblocked after its window", || async {
        (gateway.get("/a/k").await.complete_status() == 200).then_some(())
    })
    .await;
}

/// S7: a full mailbox answers busy at once, never exceeds its capacity, and bypasses no check
#[tokio::test]
async fn a_full_mailbox_is_busy_at_once() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("supervision.mailbox_capacity", "1")
        .set("rate_limit.global.requests_per_second", "1000000")
        .set("rate_limit.global.burst", "1000")
        .set("buckets.b.s3.concurrency.max_queued", "1000")
        .start()
        .await;
    let mut answers = Vec::new();
    // The number of concurrent requests depends on the scheduler; some of so many always overlap.
    for _ in 0..20 {
        answers.extend(join_all((0..64).map(|_| gateway.get("/b/k"))).await);
    }
    let served = count(&answers, 200, "");
    let limiter = count(&answers, 503, "limiter_unavailable");
    let pool = count(&answers, 503, "pool_unavailable");
    assert_eq!(served + limiter + pool, answers.len());
    assert!(served > 0 && limiter + pool > 0, "{served} served, {limiter} and {pool} busy");
    assert_eq!(upstream.count(), served);
    let mut refused = answers.iter().filter(|answer| answer.status == 503);
    assert!(refused.all(|answer| matches!(answer.retry_after(), Some(1 | 2))));
    for (actor, busy) in [("limiter", limiter), ("pool:b", pool)] {
        let name = format!("actor_messages_rejected_total{{actor=\"{actor}\",reason=\"busy\"}}");
        assert!(gateway.metric(&name).await >= busy as f64, "{actor}");
        assert_eq!(gateway.actor(actor).await["mailbox_capacity"], 1);
    }
    gateway.wait_until_idle().await;
}

/// S9: every actor has metrics for restarts, generation, depth, waiting and handling time, rejections and expiries
#[tokio::test]
async fn every_actor_is_measured() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("rate_limit.global.requests_per_second", "1000")
        .start()
        .await;
    // The handling time is measured for one message in sixteen.
    for _ in 0..20 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    gateway.crash("limiter", "decide").await;
    gateway.wait_for_generation("limiter", 2).await;
    let scrape = gateway.metrics().await;
    for actor in ["monitor", "limiter", "sessions", "breaker:b", "pool:b"] {
        for name in [
            "actor_restarts_total",
            "actor_generation",
            "actor_mailbox_depth",
            "actor_state",
            "actor_mailbox_wait_seconds_count",
            "actor_handle_seconds_count",
            "actor_messages_expired_total",
        ] {
            assert!(
                scrape.contains(&format!("tidegate_{name}{{actor=\"{actor}\"}} ")),
                "{name} of {actor} in:\n{scrape}"
            );
        }
        for reason in ["busy", "failed", "poison"] {
            let name = format!("actor_messages_rejected_total{{actor=\"{actor}\",reason=\"{reason}\"}} ");
            assert!(scrape.contains(&name), "{name}");
        }
    }
    assert_eq!(gateway.metric("actor_restarts_total{actor=\"limiter\"}").await, 1.0);
    assert_eq!(gateway.metric("actor_generation{actor=\"limiter\"}").await, 2.0);
    assert!(gateway.metric("actor_handle_seconds_count{actor=\"pool:b\"}").await >= 1.0);
    assert!(gateway.metric("actor_mailbox_wait_seconds_count{actor=\"limiter\"}").await >= 1.0);
}
