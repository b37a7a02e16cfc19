//! Single crashes.

use std::time::Duration;

use super::{Load, PLACES, count, others};
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, client, get, request, wait_until};

/// A gateway in which every request uses every actor, and none refuses.
async fn start(upstream: &Upstream) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .chaos()
        // All requests have one fingerprint for the limiter: with this setting none is refused as a crash repeat.
        .set("supervision.window_seconds", "0.001")
        .set("rate_limit.global.requests_per_second", "1000000")
        // Low enough that no worker gets a lease, and every request calls the limiter.
        .set("rate_limit.global.burst", "1000")
        .start()
        .await
}

const SESSION: (&str, &str) = ("x-tidegate-session", "session-1");

/// S1, S2, S5: each actor, crashed at each point while requests run, restarts behind the same address; no request
/// fails, because none was the crashing message
#[tokio::test]
async fn every_actor_restarts_from_every_crash_point_without_a_lost_request() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    let load = Load::start(&gateway, 4, "/b/k", &[SESSION]);
    for actor in ["limiter", "breaker:b", "pool:b", "sessions", "monitor"] {
        for place in PLACES {
            let before = gateway.generation(actor).await;
            gateway.crash(actor, place).await;
            // `started` is reached by a crash before it.
            let crashes = if place == "started" { 2 } else { 1 };
            gateway.wait_for_generation(actor, before + crashes).await;
            let answer = request(gateway.address(), "GET", "/b/k", &[SESSION], None).await;
            assert_eq!(answer.complete_status(), 200, "after {actor} crashed at {place}: {}", answer.text());
            assert_eq!(gateway.generation(actor).await, before + crashes, "{actor} at {place} crashed again");
            assert_eq!(gateway.actor(actor).await["state"], "running", "{actor} at {place}");
        }
    }
    let answers = load.answers().await;
    assert!(answers.len() > 20, "{} requests ran", answers.len());
    let lost: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(lost.is_empty(), "{lost:?}");
    gateway.wait_until_idle().await;
}

/// S2, S5: a request that crashed an actor is answered 503 with a Retry-After of at most a second and is never
/// admitted; the next one is served
#[tokio::test]
async fn a_request_that_crashed_an_actor_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    let mut served = 0;
    for (actor, reason) in [("limiter", "limiter_unavailable"), ("pool:b", "pool_unavailable")] {
        for place in ["decide", "apply", "applied"] {
            gateway.crash_next(actor, place).await;
            let answer = gateway.get("/b/k").await;
            assert_eq!((answer.complete_status(), answer.reason()), (503, reason), "{actor} at {place}");
            assert!(answer.retry_after().unwrap() <= 1, "{answer:?}");
            assert!(answer.text().contains("<Code>ServiceUnavailable</Code>"), "{}", answer.text());
            assert_eq!(upstream.count(), served, "the crashing request of {actor} at {place} was forwarded");
            assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "after {actor} crashed at {place}");
            served += 1;
        }
    }
    gateway.wait_until_idle().await;
}

/// S5, B4: a trial that crashed the breaker is refused and never sent; its permit is not lost
#[tokio::test]
async fn a_trial_that_crashed_the_breaker_is_not_sent() {
    for place in ["decide", "apply"] {
        let upstream = Upstream::sequence(vec![UpstreamReply::status(500), UpstreamReply::ok("x")]);
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .chaos()
            .set("buckets.b.s3.retry.max_attempts", "1")
            .set("buckets.b.s3.circuit_breaker.failure_threshold", "1")
            .set("buckets.b.s3.circuit_breaker.success_threshold", "1")
            .set("buckets.b.s3.circuit_breaker.half_open_max_requests", "1")
            .set("buckets.b.s3.circuit_breaker.timeout_seconds", "0.2")
            .start()
            .await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
        tokio::time::sleep(Duration::from_millis(400)).await;
        gateway.crash_next("breaker", place).await;
        let victim = gateway.get("/b/k").await;
        assert_eq!((victim.complete_status(), victim.reason()), (503, "breaker_unavailable"), "{place}");
        assert!(victim.retry_after().unwrap() <= 1);
        assert_eq!(upstream.count(), 1, "{place}: the crashing request was forwarded");
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{place}: the only trial is free again");
        assert_eq!(gateway.status().await["buckets"]["b"]["breaker"]["read"]["state"], "closed", "{place}");
    }
}

/// S2, S4: after a crash during its look-up a session is verified again
#[tokio::test]
async fn a_session_cache_crash_fails_no_request() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream).await;
    for place in ["decide", "apply", "applied"] {
        let before = gateway.generation("sessions").await;
        gateway.crash_next("sessions", place).await;
        let answer = request(gateway.address(), "GET", "/b/k", &[SESSION], None).await;
        assert_eq!(answer.complete_status(), 200, "{place}");
        gateway.wait_for_generation("sessions", before + 1).await;
    }
}

/// S2, P4: waiters keep their queue positions in a crash with clean state
#[tokio::test]
async fn waiters_keep_their_positions_in_a_crash() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "30000")
        .start()
        .await;
    let address = gateway.address();
    let mut requests = Vec::new();
    for i in 0..4 {
        requests.push(tokio::spawn(async move { get(address, &format!("/b/{i}")).await }));
        if i == 0 {
            upstream.wait_until_in_flight(1).await;
        }
        crate::support::wait_for("the request queues", || async {
            (gateway.status().await["buckets"]["b"]["pool"]["queued"] == i).then_some(())
        })
        .await;
    }
    for place in ["decide", "timer", "started"] {
        let before = gateway.generation("pool:b").await;
        gateway.crash("pool:b", place).await;
        gateway.wait_for_generation("pool:b", before + 1).await;
    }
    assert_eq!((upstream.count(), upstream.peak_in_flight()), (1, 1), "no request bypassed the gate");
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    let order: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(order, ["/b/0", "/b/1", "/b/2", "/b/3"]);
    gateway.wait_until_idle().await;
}

/// S2, P4: a crash in mid-write answers the waiters at once, and the gate neither leaks nor over-grants
#[tokio::test]
async fn a_crash_in_mid_write_answers_the_waiters_and_keeps_the_gate() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "30000")
        .start()
        .await;
    let address = gateway.address();
    let first = tokio::spawn(async move { get(address, "/b/first").await });
    upstream.wait_until_in_flight(1).await;
    let second = tokio::spawn(async move { get(address, "/b/second").await });
    crate::support::wait_for("the second queues", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == 1).then_some(())
    })
    .await;
    gateway.crash("pool:b", "apply").await;
    let second = second.await.unwrap();
    assert_eq!((second.complete_status(), second.reason()), (503, "pool_unavailable"));
    assert!(second.retry_after().unwrap() <= 1);
    let third = tokio::spawn(async move { get(address, "/b/third").await });
    crate::support::wait_for("the third queues, for the first still holds the gate", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == 1).then_some(())
    })
    .await;
    latch.open_for_all();
    assert_eq!(first.await.unwrap().complete_status(), 200);
    assert_eq!(third.await.unwrap().complete_status(), 200);
    assert_eq!(upstream.peak_in_flight(), 1);
    gateway.wait_until_idle().await;
}

/// S5: many crashes under load fail exactly the requests that crashed an actor
#[tokio::test]
async fn crashes_under_load_fail_only_the_crashing_requests() {
    const CRASHES: usize = 200;
    for (actor, reason) in [("limiter", "limiter_unavailable"), ("pool:b", "pool_unavailable")] {
        let upstream = Upstream::ok("x");
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .chaos()
            .set("supervision.window_seconds", "0.001")
            .set("rate_limit.global.requests_per_second", "1000000")
            .set("rate_limit.global.burst", "1000")
            .start()
            .await;
        let load = Load::start(&gateway, 6, "/b/k", &[]);
        for _ in 0..CRASHES {
            gateway.crash_next(actor, "decide").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.wait_for_generation(actor, u64::try_from(CRASHES).unwrap() / 2).await;
        let answers = load.answers().await;
        let victims = count(&answers, 503, reason);
        // Two crashes within a millisecond block their fingerprint for that time.
        let blocked = gateway.actor(actor).await["poisoned"].as_u64().unwrap();
        let most = CRASHES + usize::try_from(blocked).unwrap();
        assert!(
            victims > 0 && victims <= most,
            "{actor}: {victims} failed requests in {CRASHES} crashes, {blocked} blocked by fingerprint"
        );
        let lost = others(&answers, reason);
        assert!(lost.is_empty(), "{actor}: {lost:?}");
        assert_eq!(upstream.count(), answers.len() - victims, "{actor}: a failed request was forwarded");
        gateway.wait_until_idle().await;
    }
}

/// S2, T5: a transfer in flight continues while every actor crashes
#[tokio::test]
async fn a_transfer_survives_a_crash_of_every_actor() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("one").then_body_when_open(&held, "two"));
    let gateway = start(&upstream).await;
    let mut transfer = client::Client::connect(gateway.address()).await;
    transfer.send(client::message("GET", "/b/k", &[], None)).await;
    let mut answer = transfer.head().await;
    for actor in ["limiter", "breaker", "pool", "sessions", "monitor"] {
        for place in PLACES {
            gateway.crash(actor, place).await;
        }
    }
    for actor in ["limiter", "breaker:b", "pool:b", "sessions", "monitor"] {
        // The next crash may overtake the timer's one, and its restart clears the timers.
        gateway.wait_for_generation(actor, 6).await;
    }
    latch.open_for_all();
    transfer.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "onetwo"));
    gateway.wait_until_idle().await;
    wait_until("the upstream is done", || upstream.in_flight() == 0).await;
}
