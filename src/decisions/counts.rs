//! Exact counts of decisions by kind, reason, scope and bucket. All four come from the code and the configuration, so the table is bounded.
//! The counts of a bucket without a name are merged into those without a bucket, so that reloads do not grow the table.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_actors::BucketId;

use crate::decisions::decision::{DecisionFacts, DecisionKind, DecisionScope};

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CountKey {
    kind: DecisionKind,
    reason: &'static str,
    scope: DecisionScope,
    bucket: Option<BucketId>,
}

/// The number of decisions of one kind, reason, scope and bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecisionCount {
    pub(crate) kind: DecisionKind,
    pub(crate) reason: &'static str,
    pub(crate) scope: DecisionScope,
    pub(crate) bucket: Option<BucketId>,
    pub(crate) count: u64,
}

/// The decisions that were counted together: since the start, and in the present second.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    total: u64,
    second: u64,
    in_second: u32,
}

/// The counts of one thread, or their sum.
#[derive(Debug, Default)]
pub(crate) struct DecisionCounts(HashMap<CountKey, Counted>);

impl DecisionCounts {
    /// Counts a decision. Returns how many of its kind, reason, scope and bucket there were in this second of the clock.
    pub(crate) fn count(&mut self, facts: &DecisionFacts, at: SystemTime) -> u32 {
        let DecisionFacts { kind, reason, bucket, figures, .. } = *facts;
        let counted = self.0.entry(CountKey { kind, reason, scope: figures.scope, bucket }).or_default();
        let second = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if counted.second != second {
            (counted.second, counted.in_second) = (second, 0);
        }
        counted.total += 1;
        counted.in_second = counted.in_second.saturating_add(1);
        counted.in_second
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (key, counted) in &other.0 {
            self.0.entry(*key).or_default().total += counted.total;
        }
    }

    /// Adds the counts of gone buckets to those without a bucket.
    pub(crate) fn merge_buckets(&mut self, is_gone: impl Fn(BucketId) -> bool) {
        let is_gone = |key: &CountKey| key.bucket.is_some_and(&is_gone);
        let gone: Vec<_> = self.0.extract_if(|key, _| is_gone(key)).collect();
        for (key, counted) in gone {
            self.0.entry(CountKey { bucket: None, ..key }).or_default().total += counted.total;
        }
    }

    /// The counts in a fixed order.
    pub(crate) fn sorted(self) -> Vec<DecisionCount> {
        let to_count = |(key, counted): (CountKey, Counted)| {
            let CountKey { kind, reason, scope, bucket } = key;
            DecisionCount { kind, reason, scope, bucket, count: counted.total }
        };
        let mut counts: Vec<_> = self.0.into_iter().map(to_count).collect();
        counts.sort_by_key(|one| (one.kind, one.reason, one.scope, one.bucket));
        counts
    }
}
