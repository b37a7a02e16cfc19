//! Retry budgets: enough for a few failures, too little to amplify an outage.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::support::{Gateway, Latch, Upstream, UpstreamReply, get};

/// Two attempts without backoff, in a bucket with a breaker that never opens.
async fn start(upstream: &Upstream, budget: &[(&str, &str)]) -> Gateway {
    let builder = Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .set("buckets.b.s3.retry.max_attempts", "2")
        .set("buckets.b.s3.retry.initial_backoff_ms", "0")
        .set("buckets.b.s3.retry.max_backoff_ms", "0");
    let builder = budget.iter().fold(builder, |builder, (key, value)| {
        builder.set(&format!("buckets.b.s3.retry.budget.{key}"), value)
    });
    builder.start().await
}

async fn metric(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!("{name}{{bucket=\"b\"}}")).await
}

/// R5, R6: with the breaker forced closed, an upstream that fails every request gets at most 20 % more requests
#[tokio::test]
async fn an_outage_is_not_amplified_beyond_the_budget() {
    const REQUESTS: usize = 300;
    let upstream = Upstream::start(|_| UpstreamReply::status(503));
    let gateway = start(&upstream, &[("min_per_second", "0"), ("min_concurrent", "1000")]).await;
    let address = gateway.address();
    for _ in 0..REQUESTS / 10 {
        let pending: Vec<_> =
            (0..10).map(|_| tokio::spawn(async move { get(address, "/b/k").await })).collect();
        for pending in pending {
            assert_eq!(pending.await.unwrap().complete_status(), 503);
        }
    }
    let retries = upstream.count() - REQUESTS;
    assert!((1..=REQUESTS / 5).contains(&retries), "{retries} retries");
    assert_eq!(metric(&gateway, "s3_retry_attempts_total").await, retries as f64);
    assert_eq!(metric(&gateway, "retry_budget_exhausted_total").await, (REQUESTS - retries) as f64);
    let amplification = metric(&gateway, "upstream_amplification").await;
    assert!(amplification > 1.0 && amplification <= 1.2, "{amplification}");
    assert_eq!(gateway.status().await["buckets"]["b"]["pool"]["amplification"], {
        (amplification * 1e4).round() / 1e4
    });
}

/// R5, R6, B2: with the default breaker an outage causes hardly any extra attempt
#[tokio::test]
async fn a_breaker_leaves_little_to_amplify() {
    const REQUESTS: usize = 400;
    let upstream = Upstream::start(|_| UpstreamReply::status(503));
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(metric(&gateway, "upstream_amplification").await, 1.0);
    for _ in 0..REQUESTS {
        assert_eq!(gateway.get("/b/k").await.status, 503);
    }
    assert!(upstream.count() <= REQUESTS / 20, "{} attempts", upstream.count());
}

/// R5: few requests may still be retried, up to the floor; then the upstream's answer is forwarded unchanged
#[tokio::test]
async fn a_spent_budget_forwards_the_answer() {
    let upstream = Upstream::start(|_| UpstreamReply::new(503, "why").header("x-from", "upstream"));
    let gateway = start(&upstream, &[("percent", "0"), ("min_per_second", "1")]).await;
    for _ in 0..30 {
        let answer = gateway.get("/b/k").await;
        let seen = (answer.complete_status(), answer.text(), answer.header("x-from").map(str::to_owned));
        assert_eq!(seen, (503, "why".to_owned(), Some("upstream".to_owned())));
    }
    assert_eq!(upstream.count(), 30 + 10, "one a second, taken over ten");
    assert_eq!(metric(&gateway, "retry_budget_exhausted_total").await, 20.0);
}

/// R5: concurrent retries are bounded by a share of the concurrent requests; beyond it the answer is forwarded, not
/// queued
#[tokio::test]
async fn concurrent_retries_are_bounded() {
    let latch = Latch::new();
    let held = latch.clone();
    let failed = Mutex::new(BTreeSet::new());
    let upstream = Upstream::start(move |seen| {
        let first = failed.lock().unwrap().insert(seen.target.clone());
        if first { UpstreamReply::status(503) } else { UpstreamReply::ok("x").when_open(&held) }
    });
    let gateway = start(&upstream, &[("min_per_second", "1000"), ("min_concurrent", "1")]).await;
    let address = gateway.address();
    let held_back = tokio::spawn(async move { get(address, "/b/first").await });
    upstream.wait_until_in_flight(1).await;
    for number in 0..4 {
        assert_eq!(
            gateway.get(&format!("/b/{number}")).await.complete_status(),
            503,
            "the only permit is taken"
        );
    }
    assert_eq!(upstream.count(), 2 + 4);
    latch.open_for_all();
    assert_eq!(held_back.await.unwrap().complete_status(), 200);
    assert_eq!(gateway.get("/b/after").await.complete_status(), 200, "and is released");
}

/// R5: an outage of one bucket spends only its own budget
#[tokio::test]
async fn each_bucket_has_its_own_budget() {
    let bad = Upstream::start(|_| UpstreamReply::status(503));
    let flaky = Upstream::sequence(vec![UpstreamReply::status(503), UpstreamReply::ok("x")]);
    let gateway = Gateway::builder()
        .bucket("bad", &bad)
        .bucket("flaky", &flaky)
        .set("buckets.bad.s3.retry.budget.percent", "0")
        .set("buckets.bad.s3.retry.budget.min_per_second", "0")
        .start()
        .await;
    assert_eq!(gateway.get("/bad/k").await.complete_status(), 503);
    assert_eq!((bad.count(), gateway.get("/flaky/k").await.complete_status()), (1, 200));
}
