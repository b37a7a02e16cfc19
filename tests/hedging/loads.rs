//! The benefit of hedging under load, and its bounded cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{p95, sent, start, won};
use crate::support::{Gateway, Upstream, UpstreamReply, get};

/// Reads this many times, six at a time, and returns how many answers were slow.
async fn read(gateway: &Gateway, requests: usize) -> usize {
    let address = gateway.address();
    let reading: Vec<_> = (0..6)
        .map(|reader| {
            tokio::spawn(async move {
                let mut slow = 0;
                for _ in (reader..requests).step_by(6) {
                    let answer = get(address, "/b/k").await;
                    assert_eq!(answer.complete_status(), 200);
                    slow += usize::from(answer.text() == "slow");
                }
                slow
            })
        })
        .collect();
    let mut slow = 0;
    for reading in reading {
        slow += reading.await.unwrap();
    }
    slow
}

/// An upstream with a latency of one second in every twentieth answer.
fn with_a_tail() -> Upstream {
    Upstream::start(|seen| match seen.number % 20 {
        0 => UpstreamReply::ok("slow").delayed(Duration::from_secs(1)),
        _ => UpstreamReply::ok("fast"),
    })
}

/// R5: with one slow answer in twenty, fewer than 1 % of clients wait for one: the 99th percentile is a fast answer.
/// The upstream gets at most 5 % more requests.
#[tokio::test]
async fn the_slow_tail_is_cut_off() {
    const REQUESTS: usize = 600;
    let upstream = with_a_tail();
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(read(&gateway, 200).await, 10, "without hedges every slow answer is waited for");

    let upstream = with_a_tail();
    let gateway = start(&upstream, &[("hedging.percent", "5")]).await;
    let before = upstream.count();
    let slow = read(&gateway, REQUESTS).await;
    assert!(slow * 100 < REQUESTS, "{slow} of {REQUESTS} are slow");
    let (requests, attempts) =
        (gateway.metric("requests_total{bucket=\"b\",class=\"2xx\"}").await, upstream.count());
    assert!(attempts as f64 <= requests * 1.05, "{attempts} attempts for {requests} requests");
    assert_eq!(attempts as f64, requests + sent(&gateway).await);
    assert!(won(&gateway).await >= 0.5 * ((attempts - before) / 20) as f64, "too few hedges won");
    gateway.wait_until_idle().await;
}

/// R5: an upstream that is slow as a whole gets hedges for a bounded share of the requests until the latency estimate
/// adapts, then none
#[tokio::test]
async fn a_uniformly_slow_upstream_is_not_hedged() {
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let upstream = Upstream::start(move |_| {
        let pause = if is_slow.load(Ordering::SeqCst) { 600 } else { 0 };
        UpstreamReply::ok("x").delayed(Duration::from_millis(pause))
    });
    let settings = [("hedging.percent", "5"), ("hedging.burst", "2"), ("hedging.delay_max_ms", "500")];
    let gateway = start(&upstream, &settings).await;
    let before = sent(&gateway).await;
    slow.store(true, Ordering::SeqCst);
    let mut requests = 0;
    while gateway.metric(&p95("read")).await < 0.5 {
        read(&gateway, 12).await;
        requests += 12;
        assert!(requests < 2_000, "the slowness was not detected");
    }
    let hedges = sent(&gateway).await - before;
    assert!(hedges <= 2.0 + f64::from(requests) * 0.05, "{hedges} for {requests} requests");
    let before = (sent(&gateway).await, upstream.count());
    read(&gateway, 24).await;
    assert_eq!((sent(&gateway).await, upstream.count()), (before.0, before.1 + 24));
}

/// R1, R2: Envoy's hedging (pull request 12983) does nothing unless a retry policy matches, without a warning; its
/// hedges on the first request were never sent. Here reads without retries are hedged, and a hedging configuration
/// without effect is a start-up error.
#[tokio::test]
async fn hedging_does_not_need_a_retry_policy() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/fast" => UpstreamReply::ok("fast"),
        _ => UpstreamReply::status(404).delayed(Duration::from_secs(1)),
    });
    let settings =
        [("retry.max_attempts", "2"), ("retry.budget.percent", "0"), ("retry.budget.min_per_second", "0")];
    let gateway = start(&upstream, &settings).await;
    assert_eq!(gateway.get("/b/missing").await.complete_status(), 404);
    assert_eq!(sent(&gateway).await, 1.0);
    let refused =
        super::hedged(Gateway::builder().bucket("b", &upstream), &[("retry.max_attempts", "1")]).run();
    assert_ne!(refused.code, Some(0));
    for key in ["buckets.b.s3.hedging.enabled", "buckets.b.s3.retry.max_attempts"] {
        assert!(refused.stderr.contains(key), "{}", refused.stderr);
    }
}
