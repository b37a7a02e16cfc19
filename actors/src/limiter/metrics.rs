//! The limiter's metrics (O3).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use prometheus::{GaugeVec, IntCounter, IntCounterVec, Opts, Registry};

use tidegate_config::{BucketConfig, Config, LimitMode, RateLimit};

use crate::clock;
use crate::lazy_counter::LazyCounter;
use crate::limiter::limit_status::{LimitScope, LimitStatus};
use crate::types::BucketId;

/// Per bucket: refusals, refusals that shadow mode suppressed, and the rate of charged tokens.
#[derive(Debug)]
pub(crate) struct LimiterMetrics {
    buckets: Vec<PerBucket>,
    rate: GaugeVec,
}

#[derive(Debug)]
struct PerBucket {
    name: String,
    exceeded: IntCounter,
    /// One counter for each scope.
    shadowed: [LazyCounter; LimitScope::ALL.len()],
    meter: Mutex<RateMeter>,
}

/// Counts the tokens of the current second and keeps the count of the last whole second.
#[derive(Debug)]
struct RateMeter {
    second: Instant,
    count: u64,
    last: u64,
}

impl RateMeter {
    fn roll(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.second).as_secs();
        if elapsed == 0 {
            return;
        }
        self.last = if elapsed == 1 { self.count } else { 0 };
        self.count = 0;
        self.second += Duration::from_secs(elapsed);
    }
}

/// Whether a limit of this scope that applies to the bucket is in shadow mode.
fn is_in_shadow(config: &Config, bucket: &BucketConfig, scope: LimitScope) -> bool {
    let is_shadow = |limit: Option<RateLimit>| limit.is_some_and(|limit| limit.mode == LimitMode::Shadow);
    let limits = &config.rate_limit;
    let of_keys = || {
        let own = config.keys.values().map(|key| key.rate_limit);
        own.chain(config.api_keys.values().map(|key| key.rate_limit))
    };
    match scope {
        LimitScope::Global => is_shadow(limits.global),
        LimitScope::Ip => is_shadow(limits.per_ip),
        LimitScope::Bucket => is_shadow(bucket.rate_limit),
        LimitScope::Key => of_keys().any(|limit| is_shadow(limit.or(limits.per_key))),
        LimitScope::Subject => is_shadow(limits.per_subject),
        LimitScope::FailedAuth => is_shadow(limits.failed_auth),
    }
}

impl LimiterMetrics {
    pub(crate) fn register(registry: &Registry, config: &Config) -> Result<Self, prometheus::Error> {
        let exceeded = IntCounterVec::new(
            Opts::new("rate_limit_exceeded_total", "requests refused by a rate limit"),
            &["bucket"],
        )?;
        let shadowed = IntCounterVec::new(
            Opts::new(
                "rate_limit_shadowed_total",
                "requests that a rate limit admitted only because it is in shadow mode",
            ),
            &["bucket", "limit"],
        )?;
        let rate = GaugeVec::new(
            Opts::new(
                "rate_limit_current_rate",
                "tokens charged in the last whole second, where a limit applies; a request costs one unless configured otherwise",
            ),
            &["bucket"],
        )?;
        registry.register(Box::new(exceeded.clone()))?;
        registry.register(Box::new(shadowed.clone()))?;
        registry.register(Box::new(rate.clone()))?;
        let buckets = config
            .buckets
            .iter()
            .map(|(name, bucket)| PerBucket {
                name: name.clone(),
                exceeded: exceeded.with_label_values(&[name]),
                shadowed: LimitScope::ALL.map(|scope| {
                    LazyCounter::new(&shadowed, &[name, scope.as_str()], is_in_shadow(config, bucket, scope))
                }),
                meter: Mutex::new(RateMeter { second: clock::now(), count: 0, last: 0 }),
            })
            .collect();
        Ok(Self { buckets, rate })
    }

    pub(crate) fn count_tokens(&self, bucket: BucketId, tokens: u32, now: Instant) {
        // Only the actor and a scrape take this lock, so it is almost always free.
        if let Some(bucket) = self.buckets.get(bucket.index())
            && let Ok(mut meter) = bucket.meter.lock()
        {
            meter.roll(now);
            meter.count += u64::from(tokens);
        }
    }

    pub(crate) fn exceeded(&self, bucket: BucketId) {
        if let Some(bucket) = self.buckets.get(bucket.index()) {
            bucket.exceeded.inc();
        }
    }

    pub(crate) fn shadowed(&self, bucket: BucketId, limits: &[LimitStatus]) {
        if let Some(bucket) = self.buckets.get(bucket.index()) {
            limits.iter().for_each(|limit| bucket.shadowed[limit.scope as usize].inc());
        }
    }

    /// The requests of a bucket that only the shadow mode admitted, by limit.
    pub(crate) fn shadowed_counts(&self, bucket: BucketId) -> impl Iterator<Item = (LimitScope, u64)> {
        let counters = self.buckets.get(bucket.index()).map(|bucket| &bucket.shadowed);
        counters.into_iter().flat_map(|counters| {
            LimitScope::ALL.into_iter().zip(counters).map(|(scope, counter)| (scope, counter.get()))
        })
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
