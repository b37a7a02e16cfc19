//! Hedged requests: a second attempt for slow reads.
//!
//! Slow answers are held by a latch for as long as the test needs, and fast ones are sent at once, so nothing depends
//! on the machine's speed: the minimum hedge delay is far above the time of a fast answer.

mod loads;
mod race;
mod suppressed;

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::support::{Gateway, Latch, SeenRequest, Upstream, UpstreamReply, gateway, wait_for};

/// The minimum hedge delay.
const DELAY_MS: &str = "150";

/// Hedging on, with a hedge budget that every request refills.
fn hedged(builder: gateway::Builder, settings: &[(&str, &str)]) -> gateway::Builder {
    let builder = builder
        .set("buckets.b.s3.hedging.enabled", "true")
        .set("buckets.b.s3.hedging.percent", "100")
        .set("buckets.b.s3.hedging.min_calls", "20")
        .set("buckets.b.s3.hedging.delay_min_ms", DELAY_MS);
    settings.iter().fold(builder, |builder, (key, value)| builder.set(&format!("buckets.b.s3.{key}"), value))
}

/// A bucket `b` with hedging and a known read latency.
async fn start(upstream: &Upstream, settings: &[(&str, &str)]) -> Gateway {
    let gateway = hedged(Gateway::builder().bucket("b", upstream), settings).start().await;
    learn(&gateway, "/b/fast", "read").await;
    gateway
}

/// Reads until the latency percentile of these reads is known.
async fn learn(gateway: &Gateway, target: &str, class: &str) {
    wait_for("the percentile is known", || async {
        for _ in 0..20 {
            assert_eq!(gateway.get(target).await.complete_status(), 200);
        }
        (gateway.metric(&p95(class)).await > 0.0).then_some(())
    })
    .await;
}

fn p95(class: &str) -> String {
    format!("hedge_first_byte_p95_seconds{{bucket=\"b\",class=\"{class}\"}}")
}

async fn sent(gateway: &Gateway) -> f64 {
    gateway.metric("hedges_sent_total{bucket=\"b\"}").await
}

async fn won(gateway: &Gateway) -> f64 {
    gateway.metric("hedges_won_total{bucket=\"b\"}").await
}

async fn suppressed(gateway: &Gateway, cause: &str) -> f64 {
    gateway.metric(&format!("hedges_suppressed_total{{bucket=\"b\",cause=\"{cause}\"}}")).await
}

/// The number of requests for each target.
#[derive(Default)]
struct Times(Mutex<BTreeMap<String, usize>>);

impl Times {
    /// The ordinal of this request, from 1.
    fn count(&self, seen: &SeenRequest) -> usize {
        let mut times = self.0.lock().unwrap();
        let count = times.entry(seen.target.clone()).or_default();
        *count += 1;
        *count
    }
}

/// The number of requests for slow targets at an upstream.
fn slow(upstream: &Upstream) -> usize {
    upstream.seen().iter().filter(|seen| seen.target.contains("slow")).count()
}

/// Answers at once, but holds the first answer for each target with `slow` in it.
fn first_held(latch: &Latch) -> Upstream {
    let (latch, times) = (latch.clone(), Times::default());
    Upstream::start(move |seen| {
        if !seen.target.contains("slow") {
            UpstreamReply::ok("fast")
        } else if times.count(seen) == 1 {
            UpstreamReply::ok("first").when_open(&latch)
        } else {
            UpstreamReply::ok("second")
        }
    })
}
