//! The limiter's metrics (O3).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use prometheus::{GaugeVec, IntCounter, IntCounterVec, Opts, Registry};

use crate::clock;
use crate::types::BucketId;

/// Per bucket: refusals, and the rate of admitted requests.
#[derive(Debug)]
pub(crate) struct LimiterMetrics {
    buckets: Vec<PerBucket>,
    rate: GaugeVec,
}

#[derive(Debug)]
struct PerBucket {
    name: String,
    exceeded: IntCounter,
    meter: Mutex<Meter>,
}

/// Counts the current second and remembers the last whole one.
#[derive(Debug)]
struct Meter {
    second: Instant,
    count: u64,
    last: u64,
}

impl Meter {
    fn roll(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.second).as_secs();
        if passed == 0 {
            return;
        }
        self.last = if passed == 1 { self.count } else { 0 };
        self.count = 0;
        self.second += Duration::from_secs(passed);
    }
}

impl LimiterMetrics {
    pub(crate) fn register(registry: &Registry, buckets: &[String]) -> Result<Self, prometheus::Error> {
        let exceeded = IntCounterVec::new(
            Opts::new("rate_limit_exceeded_total", "requests refused by a rate limit"),
            &["bucket"],
        )?;
        let rate = GaugeVec::new(
            Opts::new(
                "rate_limit_current_rate",
                "requests admitted in the last whole second, where a limit applies",
            ),
            &["bucket"],
        )?;
        registry.register(Box::new(exceeded.clone()))?;
        registry.register(Box::new(rate.clone()))?;
        let buckets = buckets
            .iter()
            .map(|name| PerBucket {
                name: name.clone(),
                exceeded: exceeded.with_label_values(&[name]),
                meter: Mutex::new(Meter { second: clock::now(), count: 0, last: 0 }),
            })
            .collect();
        Ok(Self { buckets, rate })
    }

    pub(crate) fn admitted(&self, bucket: BucketId, count: u32, now: Instant) {
        // Only the actor and a scrape come here, so the lock is free but for the scrape's moment.
        if let Some(bucket) = self.buckets.get(bucket.index())
            && let Ok(mut meter) = bucket.meter.lock()
        {
            meter.roll(now);
            meter.count += u64::from(count);
        }
    }

    pub(crate) fn exceeded(&self, bucket: BucketId) {
        if let Some(bucket) = self.buckets.get(bucket.index()) {
            bucket.exceeded.inc();
        }
    }

    /// Sets the rate gauges; called before a scrape is answered.
    pub(crate) fn observe(&self, now: Instant) {
        for bucket in &self.buckets {
            if let Ok(mut meter) = bucket.meter.lock() {
                meter.roll(now);
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                self.rate.with_label_values(&[&bucket.name]).set(meter.last as f64);
            }
        }
    }
}
