//! Exact counts of decisions by kind, reason, scope and bucket. All four come from the code and the configuration, so the table is bounded.

use std::collections::HashMap;

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

/// The counts of one thread, or their sum.
#[derive(Debug, Default)]
pub(crate) struct DecisionCounts(HashMap<CountKey, u64>);

impl DecisionCounts {
    pub(crate) fn count(&mut self, facts: &DecisionFacts) {
        let DecisionFacts { kind, reason, bucket, figures, .. } = *facts;
        *self.0.entry(CountKey { kind, reason, scope: figures.scope, bucket }).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (key, count) in &other.0 {
            *self.0.entry(*key).or_default() += count;
        }
    }

    /// The counts in a fixed order.
    pub(crate) fn sorted(self) -> Vec<DecisionCount> {
        let to_count = |(key, count)| {
            let CountKey { kind, reason, scope, bucket } = key;
            DecisionCount { kind, reason, scope, bucket, count }
        };
        let mut counts: Vec<_> = self.0.into_iter().map(to_count).collect();
        counts.sort_by_key(|one| (one.kind, one.reason, one.scope, one.bucket.map(BucketId::index)));
        counts
    }
}
