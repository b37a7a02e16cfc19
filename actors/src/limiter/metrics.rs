//! The limiter's metrics (O3).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

use tidegate_config::{Config, LimitMode, RateLimit};

use crate::clock;
use crate::ids::{IdMap, Ids};
use crate::lazy_counter::LazyCounter;
use crate::limiter::limit_status::{LimitScope, LimitScopes, LimitStatus};
use crate::types::BucketId;

/// The buckets of one configuration: refusals, refusals that shadow mode suppressed, and the rate of charged tokens.
#[derive(Debug, Clone)]
pub(crate) struct LimiterMetrics {
    families: Arc<LimiterFamilies>,
    buckets: IdMap<BucketId, Arc<PerBucket>>,
    /// The limits of each bucket that can count in shadow mode.
    in_shadow: IdMap<BucketId, LimitScopes>,
}

/// The families, and the buckets of all configurations in use.
#[derive(Debug)]
struct LimiterFamilies {
    exceeded: IntCounterVec,
    shadowed: IntCounterVec,
    rate: GaugeVec,
    exposed: Mutex<IdMap<BucketId, Arc<PerBucket>>>,
}

#[derive(Debug)]
struct PerBucket {
    name: String,
    exceeded: LazyCounter,
    /// One counter for each scope.
    shadowed: [LazyCounter; LimitScope::ALL.len()],
    meter: Mutex<RateMeter>,
}

impl LimiterFamilies {
    fn exposed(&self) -> MutexGuard<'_, IdMap<BucketId, Arc<PerBucket>>> {
        self.exposed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A bucket with series that are not exposed yet.
    fn bucket(&self, name: &str) -> PerBucket {
        let shadowed = |scope: LimitScope| LazyCounter::new(&self.shadowed, &[name, scope.as_str()], false);
        PerBucket {
            name: name.to_owned(),
            exceeded: LazyCounter::new(&self.exceeded, &[name], false),
            shadowed: LimitScope::ALL.map(shadowed),
            meter: Mutex::new(RateMeter { second: clock::now(), count: 0, last: 0 }),
        }
    }

    /// Removes all series of a bucket. A series that is absent is not an error.
    fn remove(&self, name: &str) {
        let _ = self.exceeded.remove_label_values(&[name]);
        let _ = self.rate.remove_label_values(&[name]);
        for scope in LimitScope::ALL {
            let _ = self.shadowed.remove_label_values(&[name, scope.as_str()]);
        }
    }
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

/// The limits of each bucket that are in shadow mode.
fn in_shadow(config: &Config, ids: &Ids) -> IdMap<BucketId, LimitScopes> {
    let is_shadow = |limit: Option<RateLimit>| limit.is_some_and(|limit| limit.mode == LimitMode::Shadow);
    let limits = &config.rate_limit;
    let of_keys = config.keys.values().map(|key| key.rate_limit);
    let mut of_keys = of_keys.chain(config.api_keys.values().map(|key| key.rate_limit));
    let of_all = [
        (LimitScope::Global, is_shadow(limits.global)),
        (LimitScope::Ip, is_shadow(limits.per_ip)),
        (LimitScope::Key, of_keys.any(|limit| is_shadow(limit.or(limits.per_key)))),
        (LimitScope::Subject, is_shadow(limits.per_subject)),
        (LimitScope::FailedAuth, is_shadow(limits.failed_auth)),
    ];
    let of_bucket = |limit| {
        let scopes = of_all.into_iter().chain([(LimitScope::Bucket, is_shadow(limit))]);
        scopes.filter(|(_, is_shadow)| *is_shadow).map(|(scope, _)| scope).collect()
    };
    let buckets = ids.buckets().zip(config.buckets.values());
    buckets.map(|((_, id), bucket)| (id, of_bucket(bucket.rate_limit))).collect()
}

impl LimiterMetrics {
    pub(crate) fn register(
        registry: &Registry,
        config: &Config,
        ids: &Ids,
    ) -> Result<Self, prometheus::Error> {
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
        let families = LimiterFamilies { exceeded, shadowed, rate, exposed: Mutex::default() };
        let metrics = Self::build(Arc::new(families), &IdMap::default(), config, ids);
        metrics.publish();
        Ok(metrics)
    }

    fn build(
        families: Arc<LimiterFamilies>,
        old: &IdMap<BucketId, Arc<PerBucket>>,
        config: &Config,
        ids: &Ids,
    ) -> Self {
        let bucket = |(name, id)| {
            let kept = old.get(id).map(Arc::clone);
            (id, kept.unwrap_or_else(|| Arc::new(families.bucket(name))))
        };
        let buckets = ids.buckets().map(bucket).collect();
        Self { families, buckets, in_shadow: in_shadow(config, ids) }
    }

    /// The metrics of the configuration that replaces this one. Series of new buckets are exposed by `publish`.
    pub(crate) fn reconfigured(&self, config: &Config, ids: &Ids) -> Self {
        Self::build(Arc::clone(&self.families), &self.buckets, config, ids)
    }

    /// Exposes the series of all buckets, at 0 if they can count.
    pub(super) fn publish(&self) {
        let mut exposed = self.families.exposed();
        for (id, bucket) in self.buckets.iter() {
            bucket.exceeded.expose();
            let scopes = self.in_shadow.get(id).copied().unwrap_or_default();
            scopes.iter().for_each(|scope| bucket.shadowed[scope as usize].expose());
            exposed.insert(id, Arc::clone(bucket));
        }
    }

    /// Removes the series of buckets that no configuration has any more. A new bucket of the same name keeps them.
    pub(crate) fn forget(&self, buckets: &[BucketId]) {
        let mut exposed = self.families.exposed();
        for id in buckets {
            let Some(bucket) = exposed.remove(*id) else { continue };
            if exposed.values().all(|other| other.name != bucket.name) {
                self.families.remove(&bucket.name);
            }
        }
    }

    /// Adds the buckets of another configuration.
    pub(super) fn extend(&mut self, other: &Self) {
        other.buckets.iter().for_each(|(id, bucket)| self.buckets.insert(id, Arc::clone(bucket)));
    }

    /// Removes buckets, in the order of their IDs, from this table; their series stay.
    pub(super) fn remove(&mut self, buckets: &[BucketId]) {
        self.buckets.retain(|bucket, _| buckets.binary_search(&bucket).is_err());
    }

    pub(crate) fn count_tokens(&self, bucket: BucketId, tokens: u32, now: Instant) {
        // Only the actor and a scrape take this lock, so it is almost always free.
        if let Some(bucket) = self.buckets.get(bucket)
            && let Ok(mut meter) = bucket.meter.lock()
        {
            meter.roll(now);
            meter.count += u64::from(tokens);
        }
    }

    pub(crate) fn exceeded(&self, bucket: BucketId) {
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.exceeded.inc();
        }
    }

    pub(crate) fn shadowed(&self, bucket: BucketId, limits: &[LimitStatus]) {
        if let Some(bucket) = self.buckets.get(bucket) {
            limits.iter().for_each(|limit| bucket.shadowed[limit.scope as usize].inc());
        }
    }

    /// The requests of a bucket that only the shadow mode admitted, by limit.
    pub(crate) fn shadowed_counts(&self, bucket: BucketId) -> impl Iterator<Item = (LimitScope, u64)> {
        let counters = self.buckets.get(bucket).map(|bucket| &bucket.shadowed);
        counters.into_iter().flat_map(|counters| {
            LimitScope::ALL.into_iter().zip(counters).map(|(scope, counter)| (scope, counter.get()))
        })
    }

    /// Sets the rate gauges of the buckets of all configurations in use; called before a scrape is answered.
    pub(crate) fn observe(&self, now: Instant) {
        for bucket in self.families.exposed().values() {
            if let Ok(mut meter) = bucket.meter.lock() {
                meter.roll(now);
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                self.families.rate.with_label_values(&[&bucket.name]).set(meter.last as f64);
            }
        }
    }
}
