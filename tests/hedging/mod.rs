//! Slow reads that are asked for a second time.
//!
//! What is slow here is held by a latch for as long as the test wants, and what is fast answers at once, so that nothing depends on how
//! fast the machine is: the shortest wait before a hedge is far above what a fast answer takes.

mod loads;
mod race;
mod suppressed;

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::support::{Gateway, Latch, SeenRequest, Upstream, UpstreamReply, gateway, wait_for};

/// How long a hedge waits at least.
const DELAY_MS: &str = "150";

/// Hedging on, with a purse that every request fills.
fn hedged(builder: gateway::Builder, settings: &[(&str, &str)]) -> gateway::Builder {
    let builder = builder
        .set("buckets.b.s3.hedging.enabled", "true")
        .set("buckets.b.s3.hedging.percent", "100")
        .set("buckets.b.s3.hedging.min_calls", "20")
        .set("buckets.b.s3.hedging.delay_min_ms", DELAY_MS);
    settings.iter().fold(builder, |builder, (key, value)| builder.set(&format!("buckets.b.s3.{key}"), value))
}

/// A bucket `b` that hedges, and knows how long its reads take.
async fn start(upstream: &Upstream, settings: &[(&str, &str)]) -> Gateway {
    let gateway = hedged(Gateway::builder().bucket("b", upstream), settings).start().await;
    learn(&gateway, "/b/fast", "read").await;
    gateway
}

/// Reads until the percentile of such reads is known.
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
    format!("hedge_first_byte_p95_ms{{bucket=\"b\",class=\"{class}\"}}")
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

/// How often each target was asked for.
#[derive(Default)]
struct Times(Mutex<BTreeMap<String, usize>>);

impl Times {
    /// The how manieth time this is, from 1.
    fn count(&self, seen: &SeenRequest) -> usize {
        let mut times = self.0.lock().unwrap();
        let count = times.entry(seen.target.clone()).or_default();
        *count += 1;
        *count
    }
}

/// How often an upstream was asked for what is slow.
fn slow(upstream: &Upstream) -> usize {
    upstream.seen().iter().filter(|seen| seen.target.contains("slow")).count()
}

/// Answers at once, but holds back the first answer for each target with `slow` in it.
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
