//! The limits of one configuration, by ID.

use std::sync::Arc;

use tidegate_config::{Config, LimitHeaders, RateLimit};

use crate::ids::{IdMap, Ids};
use crate::limiter::burst_peaks::BurstPeak;
use crate::limiter::gcra::Gcra;
use crate::types::{BucketId, KeyId};

/// A configured limit, with the peak of its use.
#[derive(Debug, Clone)]
pub(super) struct ConfiguredLimit {
    pub(super) gcra: Gcra,
    pub(super) peak: Arc<BurstPeak>,
}

impl ConfiguredLimit {
    pub(super) fn new(limit: RateLimit) -> Self {
        let gcra = Gcra::new(limit);
        Self { gcra, peak: Arc::new(BurstPeak::new(&gcra)) }
    }

    /// The limit that replaces `old`: it keeps the peak unless rate or burst changes.
    fn replacing(limit: RateLimit, old: Option<&Self>) -> Self {
        let new = Self::new(limit);
        match old.filter(|old| old.gcra.has_pace_of(&new.gcra)) {
            Some(old) => Self { peak: Arc::clone(&old.peak), ..new },
            None => new,
        }
    }
}

/// All limits of one configuration.
#[derive(Debug)]
pub(crate) struct LimiterSettings {
    pub(super) global: Option<ConfiguredLimit>,
    /// The limit of each client address.
    pub(super) per_ip: Option<ConfiguredLimit>,
    /// The limit of each token subject.
    pub(super) per_subject: Option<ConfiguredLimit>,
    /// The limit of failed authentications of each client address.
    pub(super) failed_auth: Option<ConfiguredLimit>,
    pub(super) buckets: IdMap<BucketId, Option<ConfiguredLimit>>,
    pub(super) keys: IdMap<KeyId, Option<ConfiguredLimit>>,
    /// The capacity of each table of clients.
    pub(super) clients_max: usize,
    /// Whether admitted requests get rate-limit headers.
    pub(super) sends_headers: bool,
}

impl LimiterSettings {
    pub(crate) fn new(config: &Config, ids: &Ids) -> Self {
        Self::replacing(config, ids, None)
    }

    /// The limits of the configuration that replaces this one.
    pub(super) fn reconfigured(&self, config: &Config, ids: &Ids) -> Self {
        Self::replacing(config, ids, Some(self))
    }

    fn replacing(config: &Config, ids: &Ids, old: Option<&Self>) -> Self {
        let limits = &config.rate_limit;
        let replace = |limit: Option<RateLimit>, old: Option<&Option<ConfiguredLimit>>| {
            limit.map(|limit| ConfiguredLimit::replacing(limit, old.and_then(Option::as_ref)))
        };
        let buckets = ids.buckets().zip(config.buckets.values()).map(|((_, id), bucket)| {
            (id, replace(bucket.rate_limit, old.and_then(|old| old.buckets.get(id))))
        });
        let client_keys = ids.client_keys().zip(config.keys.values().map(|key| key.rate_limit));
        let api_keys = ids.api_keys().zip(config.api_keys.values().map(|key| key.rate_limit));
        let keys = client_keys.chain(api_keys).map(|((_, id), limit)| {
            (id, replace(limit.or(limits.per_key), old.and_then(|old| old.keys.get(id))))
        });
        Self {
            global: replace(limits.global, old.map(|old| &old.global)),
            per_ip: replace(limits.per_ip, old.map(|old| &old.per_ip)),
            per_subject: replace(limits.per_subject, old.map(|old| &old.per_subject)),
            failed_auth: replace(limits.failed_auth, old.map(|old| &old.failed_auth)),
            buckets: buckets.collect(),
            keys: keys.collect(),
            clients_max: limits.table_capacity.get(),
            sends_headers: limits.headers == LimitHeaders::Always,
        }
    }

    /// The same limits without rate-limit headers.
    pub(crate) fn without_headers(self) -> Self {
        Self { sends_headers: false, ..self }
    }

    /// The highest used share of a key's burst since the last call; the peaks of all keys start again.
    pub(super) fn take_key_peak(&self) -> Option<f64> {
        self.keys.values().flatten().map(|limit| limit.peak.take()).reduce(f64::max)
    }
}

#[cfg(test)]
impl LimiterSettings {
    /// No limit, with tables of this capacity.
    pub(super) fn unlimited(clients_max: usize) -> Self {
        Self {
            global: None,
            per_ip: None,
            per_subject: None,
            failed_auth: None,
            buckets: IdMap::default(),
            keys: IdMap::default(),
            clients_max,
            sends_headers: false,
        }
    }

    /// The limits of the head of a request: global, per address, and of buckets with the numbers from 0 on.
    pub(super) fn of_heads(
        global: Option<RateLimit>,
        per_ip: Option<RateLimit>,
        buckets: &[Option<RateLimit>],
        clients_max: usize,
    ) -> Self {
        let limit = |limit: Option<RateLimit>| limit.map(ConfiguredLimit::new);
        let ids = (0..).map(BucketId::new);
        Self {
            global: limit(global),
            per_ip: limit(per_ip),
            buckets: ids.zip(buckets.iter().map(|bucket| limit(*bucket))).collect(),
            ..Self::unlimited(clients_max)
        }
    }

    /// The limits of keys with the numbers from 0 on.
    pub(super) fn of_keys(keys: &[Option<RateLimit>]) -> Self {
        let ids = (0..).map(KeyId::new);
        let limits = keys.iter().map(|limit| limit.map(ConfiguredLimit::new));
        Self { keys: ids.zip(limits).collect(), ..Self::unlimited(1) }
    }
}
