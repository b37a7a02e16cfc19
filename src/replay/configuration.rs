//! Which bucket and key of a configuration a name of the log means.

use std::collections::{BTreeMap, HashMap};

use tidegate_actors::{BucketId, KeyId};
use tidegate_config::{Config, Costs};

use crate::replay::names::{Names, OTHERS};

/// The names of one configuration, and what is known about those of the log.
pub(crate) struct ConfiguredNames {
    buckets: HashMap<String, (BucketId, Costs)>,
    keys: HashMap<String, KeyId>,
    /// By the number of the name in the log.
    known_buckets: Vec<Option<(BucketId, Costs)>>,
    known_keys: Vec<Option<KeyId>>,
    /// The names of the buckets, by their IDs.
    pub(crate) bucket_names: Vec<String>,
    /// Requests to buckets that the configuration does not have, by the number of the name.
    pub(crate) missing_buckets: BTreeMap<u32, u64>,
    /// Requests with keys that the configuration does not have.
    pub(crate) missing_keys: u64,
}

impl ConfiguredNames {
    pub(crate) fn new(config: &Config) -> Self {
        let ids = (0..).map(BucketId::new);
        let bucket = |((name, bucket), id): ((&String, &tidegate_config::BucketConfig), BucketId)| {
            (name.clone(), (id, bucket.costs))
        };
        // The numbers of keys are those of `auth/keyring.rs`.
        let names = config.keys.values().map(|key| &key.access_key_id).chain(config.api_keys.keys());
        Self {
            buckets: config.buckets.iter().zip(ids).map(bucket).collect(),
            keys: names.zip(0..).map(|(name, id)| (name.clone(), KeyId::new(id))).collect(),
            known_buckets: Vec::new(),
            known_keys: Vec::new(),
            bucket_names: config.buckets.keys().cloned().collect(),
            missing_buckets: BTreeMap::new(),
            missing_keys: 0,
        }
    }

    /// The bucket of this number in the log, if the configuration has it.
    pub(crate) fn bucket(&mut self, id: u32, names: &Names) -> Option<(BucketId, Costs)> {
        while self.known_buckets.len() < names.len() {
            let name = names.name(u32::try_from(self.known_buckets.len()).unwrap_or(OTHERS));
            self.known_buckets.push(self.buckets.get(name).copied());
        }
        let found = self.known_buckets.get(id as usize).copied().flatten();
        if found.is_none() {
            *self.missing_buckets.entry(id).or_default() += 1;
        }
        found
    }

    /// The key of this number in the log, if the configuration has it.
    pub(crate) fn key(&mut self, id: u32, names: &Names) -> Option<KeyId> {
        while self.known_keys.len() < names.len() {
            let name = names.name(u32::try_from(self.known_keys.len()).unwrap_or(OTHERS));
            self.known_keys.push(self.keys.get(name).copied());
        }
        let found = self.known_keys.get(id as usize).copied().flatten();
        if found.is_none() {
            self.missing_keys += 1;
        }
        found
    }
}
