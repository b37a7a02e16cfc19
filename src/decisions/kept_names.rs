//! The names of the current configuration and of replaced ones.
//!
//! The names of a replaced configuration are kept while one of its requests still runs or an entry of a ring refers to them, within
//! two bounds. An entry of an older configuration shows its bucket only, if a configuration that is kept has it too: an ID is never
//! given to another bucket. Its endpoint, credential, client key, actor and configuration key are none.

use std::collections::HashSet;
use std::sync::Arc;

use tidegate_actors::BucketId;

use crate::decisions::decision::{DecisionFacts, NamesNumber};
use crate::decisions::names::{BucketNames, Names, ThresholdKey};

/// Replaced configurations of which the names are kept.
const REPLACED_MAX: usize = 64;
/// Buckets, keys and set configuration keys of all replaced configurations together. An entry takes about 100 bytes.
const ENTRIES_MAX: usize = 1 << 17;

/// The names that are kept: replaced configurations first, the current one last. There is always a current one.
#[derive(Clone)]
pub(crate) struct KeptNames {
    replaced: Vec<Arc<Names>>,
    current: Arc<Names>,
}

impl KeptNames {
    pub(crate) fn new(first: Arc<Names>) -> Self {
        Self { replaced: Vec::new(), current: first }
    }

    pub(super) fn current(&self) -> &Arc<Names> {
        &self.current
    }

    /// Makes these names the current ones, and drops names that nothing refers to. `referred`: the names that entries of
    /// rings refer to.
    pub(super) fn replace(&mut self, next: Arc<Names>, referred: &HashSet<NamesNumber>) {
        self.replaced.push(std::mem::replace(&mut self.current, next));
        let (mut count, mut entries) = (0, 0);
        // The newest are kept first.
        self.replaced.reverse();
        self.replaced.retain(|names| {
            let is_used = Arc::strong_count(names) > 1 || referred.contains(&names.number());
            let (next_count, next_entries) = (count + 1, entries + names.entries());
            let is_kept = is_used && next_count <= REPLACED_MAX && next_entries <= ENTRIES_MAX;
            if is_kept {
                (count, entries) = (next_count, next_entries);
            }
            is_kept
        });
        self.replaced.reverse();
    }

    /// The newest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Names>> {
        [&self.current].into_iter().chain(self.replaced.iter().rev())
    }

    /// The names of the configuration with which a decision was made.
    fn of(&self, facts: &DecisionFacts) -> Option<&Names> {
        self.all().find(|names| names.number() == facts.names).map(|names| &**names)
    }

    /// The newest names that have the bucket; `of_pool`: with these endpoints and credentials.
    pub(super) fn newest_of(
        &self,
        bucket: BucketId,
        of_pool: Option<&Arc<BucketNames>>,
    ) -> Option<&Arc<Names>> {
        let has = |names: &&Arc<Names>| match (names.bucket_names(bucket), of_pool) {
            (Some(found), Some(of_pool)) => Arc::ptr_eq(found, of_pool),
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        };
        self.all().find(has)
    }

    pub(crate) fn bucket(&self, id: BucketId) -> Option<&str> {
        self.newest_of(id, None)?.bucket(id)
    }

    /// The buckets of this name: one that goes and comes back has another ID.
    pub(crate) fn find_buckets(&self, name: &str) -> Vec<BucketId> {
        let mut found: Vec<BucketId> = self.all().filter_map(|names| names.find_bucket(name)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The name of the client's key.
    pub(crate) fn client_key(&self, facts: &DecisionFacts) -> Option<&str> {
        self.of(facts)?.client_key(facts)
    }

    /// The endpoint of a decision: host and port.
    pub(crate) fn endpoint(&self, facts: &DecisionFacts) -> Option<&str> {
        self.of(facts)?.endpoint(facts)
    }

    pub(crate) fn credential(&self, facts: &DecisionFacts) -> Option<&str> {
        self.of(facts)?.credential(facts)
    }

    /// The name of the actor that decided.
    pub(crate) fn actor_name(&self, facts: &DecisionFacts) -> Option<&str> {
        self.of(facts)?.actor_name(facts)
    }

    /// The key that holds the threshold of a decision.
    pub(crate) fn threshold_key(&self, facts: &DecisionFacts) -> Option<ThresholdKey<'_>> {
        self.of(facts)?.threshold_key(facts)
    }
}
