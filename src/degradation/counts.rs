//! What requests have felt so far: refusals by bucket and reason, slowed and stale answers by bucket and code.
//!
//! Refusals are read from the counters of the request path, so they cost no request anything.

use std::collections::HashMap;

use serde::Serialize;

use crate::degradation::codes::{CauseCode, ScopeKind};
use crate::degradation::finding::Scope;
use crate::telemetry::metrics::ErrorFamily;

/// The number of requests that a cause has touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Touched {
    /// Refused with a reason of the cause.
    pub(crate) refused: u64,
    /// Delayed by it.
    pub(crate) slowed: u64,
    /// Served with an old value because of it.
    pub(crate) stale: u64,
}

impl Touched {
    /// What has been added since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            refused: self.refused.saturating_sub(before.refused),
            slowed: self.slowed.saturating_sub(before.slowed),
            stale: self.stale.saturating_sub(before.stale),
        }
    }
}

/// All counts since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct EffectCounts {
    /// By reason, then by bucket; the empty bucket is that of requests without one.
    refused: HashMap<&'static str, HashMap<String, u64>>,
    slowed: HashMap<(CauseCode, String), u64>,
    stale: HashMap<(CauseCode, String), u64>,
}

impl EffectCounts {
    /// Adds the counters of refusals.
    pub(crate) fn with_refusals(mut self, families: &[ErrorFamily]) -> Self {
        for family in families {
            family.for_each_count(|bucket, reason, count| self.add_refused(bucket, reason, count));
        }
        self
    }

    pub(crate) fn add_refused(&mut self, bucket: &str, reason: &'static str, count: u64) {
        let buckets = self.refused.entry(reason).or_default();
        *buckets.entry(bucket.to_owned()).or_default() += count;
    }

    pub(crate) fn add_slowed(&mut self, code: CauseCode, bucket: &str, count: u64) {
        if count == 0 {
            return;
        }
        *self.slowed.entry((code, bucket.to_owned())).or_default() += count;
    }

    pub(crate) fn add_stale(&mut self, code: CauseCode, bucket: &str, count: u64) {
        if count == 0 {
            return;
        }
        *self.stale.entry((code, bucket.to_owned())).or_default() += count;
    }

    /// The refusals with the reasons of a code within a scope. An endpoint or a credential has the counts of its bucket.
    pub(crate) fn refused(&self, code: CauseCode, scope: &Scope) -> u64 {
        let reasons = code.entry().refusals.iter().filter(|reason| is_of_scope(reason, scope));
        let buckets = reasons.filter_map(|reason| self.refused.get(*reason)).flatten();
        buckets
            .filter(|(bucket, _)| scope.bucket.as_ref().is_none_or(|own| own == *bucket))
            .map(|(_, n)| n)
            .sum()
    }

    /// Everything that a cause has touched since the start of the process.
    pub(crate) fn touched(&self, code: CauseCode, scope: &Scope) -> Touched {
        let of = |counts: &HashMap<(CauseCode, String), u64>| {
            let key = (code, scope.bucket.clone().unwrap_or_default());
            counts.get(&key).copied().unwrap_or_default()
        };
        Touched { refused: self.refused(code, scope), slowed: of(&self.slowed), stale: of(&self.stale) }
    }
}

/// An actor causes only the refusals that bear its name. The cursors of the process and of a bucket have a reason each.
fn is_of_scope(reason: &str, scope: &Scope) -> bool {
    match reason {
        "shed" if scope.bucket.is_some() => return false,
        "shed_bucket" if scope.bucket.is_none() => return false,
        _ => {}
    }
    let actor = scope.name.as_deref().filter(|_| scope.kind == ScopeKind::Actor);
    let kind = actor.map(|name| name.split(':').next().unwrap_or(name));
    kind.is_none_or(|kind| reason.strip_suffix("_unavailable") == Some(kind))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus::Registry;
    use slog::{Discard, Logger, o};

    use super::*;

    fn counts() -> EffectCounts {
        let (registry, log) = (Registry::new(), Logger::root(Discard, o!()));
        let family = |name: &str, labels: &[&str]| {
            ErrorFamily::register(&registry, (name, "x"), labels, &log).unwrap()
        };
        let (errors, unrouted) = (family("errors", &["bucket", "reason"]), family("unrouted", &["reason"]));
        let add = |family: &ErrorFamily, bucket, reason, count| {
            let counters = family.counters(bucket, BTreeSet::from([reason]));
            (0..count).for_each(|_| counters.count(reason));
        };
        add(&errors, Some("a"), "exhausted", 2);
        add(&errors, Some("b"), "exhausted", 3);
        add(&errors, Some("a"), "pool_unavailable", 5);
        add(&errors, Some("a"), "limiter_unavailable", 7);
        add(&unrouted, None, "exhausted", 10);
        EffectCounts::default().with_refusals(&[errors, unrouted])
    }

    /// X10: a cause of the process counts all buckets and requests without one; a cause of a bucket counts its own
    #[test]
    fn refusals_are_those_of_the_scope() {
        let counts = counts();
        assert_eq!(counts.refused(CauseCode::Exhausted, &Scope::process()), 15);
        assert_eq!(counts.refused(CauseCode::Exhausted, &Scope::bucket("b")), 3);
        assert_eq!(counts.refused(CauseCode::Chaos, &Scope::process()), 0);
    }

    /// X10: an actor counts the refusals of its own kind only
    #[test]
    fn refusals_of_an_actor_are_its_own() {
        let counts = counts();
        let refused = |name| counts.refused(CauseCode::ActorStalled, &Scope::actor(name));
        assert_eq!((refused("limiter"), refused("pool:a"), refused("pool:b")), (7, 5, 0));
    }

    /// X10: the effect of a cause is what has been added since it began
    #[test]
    fn the_effect_is_a_difference() {
        let mut now = counts();
        let before = now.touched(CauseCode::ResolverStale, &Scope::bucket("a"));
        now.add_stale(CauseCode::ResolverStale, "a", 4);
        now.add_slowed(CauseCode::ResolverStale, "b", 9);
        let touched = now.touched(CauseCode::ResolverStale, &Scope::bucket("a")).since(before);
        assert_eq!(touched, Touched { refused: 0, slowed: 0, stale: 4 });
    }
}
