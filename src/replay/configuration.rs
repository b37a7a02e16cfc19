//! Which bucket and key of a configuration a name of the log means.

use std::collections::{BTreeMap, HashMap};

use tidegate_actors::{BucketId, IdMap, Ids, KeyId};
use tidegate_config::{Config, Costs};

use crate::replay::names::{Names, OTHERS};

/// The names of one configuration, and what is known about those of the log.
pub(crate) struct ConfiguredNames {
    buckets: HashMap<String, (BucketId, Costs)>,
    keys: HashMap<String, KeyId>,
    /// By the number of the name in the log.
    known_buckets: Vec<Option<(BucketId, Costs)>>,
    known_keys: Vec<Option<KeyId>>,
    bucket_names: IdMap<BucketId, String>,
    /// Requests to buckets that the configuration does not have, by the number of the name.
    pub(crate) missing_buckets: BTreeMap<u32, u64>,
    /// Requests with keys that the configuration does not have.
    pub(crate) missing_keys: u64,
}

impl ConfiguredNames {
    pub(crate) fn new(config: &Config, ids: &Ids) -> Self {
        let buckets = ids.buckets().zip(config.buckets.values());
        let access_key_ids = config.keys.values().map(|key| key.access_key_id.clone());
        let client_keys = access_key_ids.zip(ids.client_keys().map(|(_, id)| id));
        let api_keys = ids.api_keys().map(|(name, id)| (name.to_owned(), id));
        Self {
            buckets: buckets.map(|((name, id), bucket)| (name.to_owned(), (id, bucket.costs))).collect(),
            keys: client_keys.chain(api_keys).collect(),
            known_buckets: Vec::new(),
            known_keys: Vec::new(),
            bucket_names: ids.buckets().map(|(name, id)| (id, name.to_owned())).collect(),
            missing_buckets: BTreeMap::new(),
            missing_keys: 0,
        }
    }

    /// The name of a bucket.
    pub(crate) fn bucket_name(&self, bucket: BucketId) -> &str {
        self.bucket_names.get(bucket).map_or("", String::as_str)
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
