//! The configurations that still have requests, and what ends when one of them is retired.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use slog::{Logger, info};
use tidegate_actors::{Actors, BucketId, ConfigNumber, Ids, KeyId};
use tidegate_config::{BucketConfig, Config, EffectiveConfig};

use crate::auth::Keyring;
use crate::pressure::collect::collect;
use crate::process::{Process, Shared};
use crate::router::Router;

/// What is kept of a configuration until it is retired. It does not hold the configuration itself, which would never retire.
struct InUse {
    actors: Actors,
    ids: Ids,
    /// The endpoints of each bucket.
    endpoints: HashMap<String, HashSet<String>>,
    large: LargeParts,
}

/// The large parts of a configuration. They outlive it here, so that its last request does not drop them on a worker thread.
struct LargeParts {
    _config: Arc<Config>,
    _effective: Arc<EffectiveConfig>,
    _router: Arc<Router>,
    _keyring: Arc<Keyring>,
}

impl LargeParts {
    fn of(shared: &Shared) -> Self {
        Self {
            _config: Arc::clone(&shared.config),
            _effective: Arc::clone(&shared.effective),
            _router: Arc::clone(&shared.router),
            _keyring: Arc::clone(&shared.keyring),
        }
    }
}

/// The endpoints of each bucket: host and port.
fn endpoints(config: &Config) -> HashMap<String, HashSet<String>> {
    let of = |bucket: &BucketConfig| {
        bucket.upstream.endpoints.iter().map(|endpoint| endpoint.authority.clone()).collect()
    };
    config.buckets.iter().map(|(name, bucket)| (name.clone(), of(bucket))).collect()
}

/// The configurations that have requests, the current one among them.
pub(super) struct ConfigurationsInUse {
    by_number: BTreeMap<ConfigNumber, InUse>,
    log: Logger,
}

impl ConfigurationsInUse {
    pub(super) fn new(first: &Shared) -> Self {
        let mut this = Self { by_number: BTreeMap::new(), log: first.process.log.clone() };
        this.add(first);
        this
    }

    /// Adds the configuration that becomes the current one.
    pub(super) fn add(&mut self, shared: &Shared) {
        let endpoints = endpoints(&shared.config);
        let (actors, ids, large) = (shared.actors.clone(), shared.ids.clone(), LargeParts::of(shared));
        let in_use = InUse { actors, ids, endpoints, large };
        self.by_number.insert(shared.number(), in_use);
    }

    /// Ends what only the retired configuration had: actors, limits of removed names, series of metrics.
    pub(super) fn retire(&mut self, number: ConfigNumber, process: &Process) {
        let Some(retired) = self.by_number.remove(&number) else { return };
        let Some((_, current)) = self.by_number.last_key_value() else { return };
        let in_use: Vec<&Actors> = self.by_number.values().rev().map(|one| &one.actors).collect();
        retired.actors.end_retired(&in_use);
        let (buckets, keys) = self.gone(&retired.ids);
        let are_buckets_gone = !buckets.is_empty();
        if are_buckets_gone || !keys.is_empty() {
            current.actors.limiter.forget(buckets, keys);
        }
        if are_buckets_gone {
            let names: HashSet<&str> = current.ids.buckets().map(|(name, _)| name).collect();
            for (name, _) in retired.ids.buckets().filter(|(name, _)| !names.contains(name)) {
                current.actors.shedding.remove_series(name);
            }
            process.metrics.remove_buckets(&|name| !names.contains(name));
        }
        for (bucket, endpoints) in &retired.endpoints {
            if let Some(used) = current.endpoints.get(bucket)
                && !endpoints.is_subset(used)
            {
                process.metrics.remove_endpoints(bucket, |endpoint| !used.contains(endpoint));
            }
        }
        if let Some((oldest, _)) = self.by_number.first_key_value() {
            current.actors.sessions.retire_before(*oldest);
        }
        info!(self.log, "configuration retired: its last request has ended"; "number" => number.get());
        let large = retired.large;
        // It needs no reply.
        drop(tokio::task::spawn_blocking(move || {
            drop(large);
            collect();
        }));
    }

    /// The IDs that no configuration in use has, in their order.
    fn gone(&self, retired: &Ids) -> (Vec<BucketId>, Vec<KeyId>) {
        let keys = |ids: &Ids| ids.client_keys().chain(ids.api_keys()).map(|(_, id)| id).collect::<Vec<_>>();
        let buckets = |ids: &Ids| ids.buckets().map(|(_, id)| id).collect::<Vec<_>>();
        let used_buckets: HashSet<_> = self.by_number.values().flat_map(|one| buckets(&one.ids)).collect();
        let used_keys: HashSet<_> = self.by_number.values().flat_map(|one| keys(&one.ids)).collect();
        let mut gone_buckets = buckets(retired);
        gone_buckets.retain(|id| !used_buckets.contains(id));
        gone_buckets.sort_unstable();
        let mut gone_keys = keys(retired);
        gone_keys.retain(|id| !used_keys.contains(id));
        gone_keys.sort_unstable();
        (gone_buckets, gone_keys)
    }
}
