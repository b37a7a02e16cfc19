//! The part of the configuration that is used without asking the actor.

use std::sync::Arc;

use tidegate_config::{BucketConfig, Config, Costs, OnFailure, RateLimit};

use crate::ids::{IdMap, Ids};
use crate::limiter::LimiterMetrics;
use crate::limiter::auth_failures::AuthLockout;
use crate::limiter::settings::LimiterSettings;
use crate::limiter::subject_hasher::SubjectHasher;
use crate::types::{BucketId, KeyId, OperationClass};

/// The limits of the configuration of a handle.
#[derive(Debug)]
pub(super) struct Limits {
    buckets: IdMap<BucketId, BucketLimits>,
    /// Whether each key has a limit.
    keys: IdMap<KeyId, bool>,
    /// Costs of requests without a bucket.
    costs: Costs,
    /// Whether any limit applies to requests without a bucket.
    pub(super) is_limited: bool,
    /// Whether token subjects have a limit.
    pub(super) limits_subjects: bool,
    /// Whether admitted requests get rate-limit headers. If so, every request asks the actor.
    pub(super) sends_headers: bool,
    /// The limit of failed authentications.
    pub(super) auth_failures: Option<RateLimit>,
    pub(super) on_failure: OnFailure,
    pub(super) settings: Arc<LimiterSettings>,
    /// Clients over the limit of failed authentications. All configurations have the same.
    pub(super) auth_lockout: Arc<AuthLockout>,
    pub(super) metrics: Arc<LimiterMetrics>,
    /// Hashes subjects. All configurations have the same, so a subject keeps its budget.
    pub(super) hasher: Arc<SubjectHasher>,
}

/// The limits of one bucket.
#[derive(Debug)]
struct BucketLimits {
    /// Whether any limit applies; otherwise the actor is not asked.
    is_limited: bool,
    costs: Costs,
}

impl Limits {
    pub(super) fn new(config: &Config, ids: &Ids, metrics: Arc<LimiterMetrics>) -> Self {
        let settings = Arc::new(LimiterSettings::new(config, ids));
        let auth_lockout = Arc::new(AuthLockout::new(config.rate_limit.table_capacity.get()));
        Self::build((config, ids), settings, metrics, (auth_lockout, Arc::default()))
    }

    /// Those of the configuration that replaces this one.
    pub(super) fn reconfigured(&self, config: &Config, ids: &Ids) -> Self {
        let settings = Arc::new(self.settings.reconfigured(config, ids));
        let metrics = Arc::new(self.metrics.reconfigured(config, ids));
        let kept = (Arc::clone(&self.auth_lockout), Arc::clone(&self.hasher));
        Self::build((config, ids), settings, metrics, kept)
    }

    fn build(
        (config, ids): (&Config, &Ids),
        settings: Arc<LimiterSettings>,
        metrics: Arc<LimiterMetrics>,
        (auth_lockout, hasher): (Arc<AuthLockout>, Arc<SubjectHasher>),
    ) -> Self {
        let limits = &config.rate_limit;
        let is_limited = limits.global.is_some() || limits.per_ip.is_some();
        let of_bucket = |bucket: &BucketConfig| BucketLimits {
            is_limited: is_limited || bucket.rate_limit.is_some(),
            costs: bucket.costs,
        };
        let buckets = ids.buckets().zip(config.buckets.values());
        Self {
            buckets: buckets.map(|((_, id), bucket)| (id, of_bucket(bucket))).collect(),
            keys: settings.keys.iter().map(|(id, limit)| (id, limit.is_some())).collect(),
            costs: limits.cost,
            is_limited,
            limits_subjects: limits.per_subject.is_some(),
            sends_headers: settings.sends_headers,
            auth_failures: limits.failed_auth,
            on_failure: limits.on_failure,
            settings,
            auth_lockout,
            metrics,
            hasher,
        }
    }

    /// The cost of a request.
    pub(super) fn cost(&self, bucket: Option<BucketId>, class: OperationClass) -> u32 {
        let bucket_limits = bucket.and_then(|bucket| self.buckets.get(bucket));
        class.cost(bucket_limits.map_or(&self.costs, |bucket| &bucket.costs))
    }

    /// Whether no limit applies to requests of a bucket.
    pub(super) fn is_unlimited(&self, bucket: BucketId) -> bool {
        self.buckets.get(bucket).is_some_and(|bucket| !bucket.is_limited)
    }

    /// Whether a limit applies to every bucket.
    pub(super) fn limits_all(&self) -> bool {
        self.buckets.values().all(|bucket| bucket.is_limited)
    }

    /// Whether a key has a limit.
    pub(super) fn limits_key(&self, key: KeyId) -> bool {
        self.keys.get(key).copied().unwrap_or(false)
    }
}
