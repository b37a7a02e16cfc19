//! All error counters of the gateway, read once a second for the history and for the use of the limits.

use std::collections::HashMap;

use crate::process::Shared;
use crate::telemetry::metrics::ErrorFamily;

/// Errors since the start. A reading allocates only for a reason that it meets for the first time.
pub(super) struct ErrorTally {
    /// The index of each bucket; that of requests without one is the last, with the empty name.
    slots: HashMap<String, usize>,
    /// By reason and slot.
    counts: HashMap<&'static str, Box<[u64]>>,
}

impl ErrorTally {
    /// The present counts.
    pub(super) fn new(shared: &Shared) -> Self {
        let buckets = shared.router.buckets().iter().map(|bucket| bucket.name.as_str());
        let mut this = Self::of_buckets(buckets);
        this.read(shared.process.degradation.refusals());
        this
    }

    fn of_buckets<'a>(buckets: impl Iterator<Item = &'a str>) -> Self {
        let names = buckets.chain([""]);
        Self {
            slots: names.enumerate().map(|(at, name)| (name.to_owned(), at)).collect(),
            counts: HashMap::new(),
        }
    }

    /// Reads the counters again.
    pub(super) fn read(&mut self, families: &[ErrorFamily]) {
        self.counts.values_mut().for_each(|slots| slots.fill(0));
        for family in families {
            family.for_each_count(|bucket, reason, count| {
                let slots = self.slots.len();
                let counts = self.counts.entry(reason).or_insert_with(|| vec![0; slots].into());
                if let Some(at) = self.slots.get(bucket) {
                    counts[*at] += count;
                }
            });
        }
    }

    /// Errors with this reason, of one bucket or of all requests.
    pub(super) fn of_reason(&self, reason: &str, bucket: Option<usize>) -> u64 {
        let Some(slots) = self.counts.get(reason) else { return 0 };
        bucket.map_or_else(|| slots.iter().sum(), |at| slots[at])
    }

    /// Errors of all kinds.
    pub(super) fn all(&self) -> u64 {
        self.counts.values().flatten().sum()
    }

    /// Errors of requests without a bucket.
    pub(super) fn unrouted(&self) -> u64 {
        self.counts.values().filter_map(|slots| slots.last()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus::Registry;
    use slog::{Discard, Logger, o};

    use super::*;

    /// G2, X7: counts belong to their bucket or to none, and a second reading replaces the first
    #[test]
    fn counts_are_by_bucket() {
        let (registry, log) = (Registry::new(), Logger::root(Discard, o!()));
        let family = |name: &str, labels: &[&str]| {
            ErrorFamily::register(&registry, (name, "x"), labels, &log).unwrap()
        };
        let (errors, unrouted) = (family("errors", &["bucket", "reason"]), family("unrouted", &["reason"]));
        let counters = |name| errors.counters(Some(name), BTreeSet::from(["shed", "host"]));
        let (a, b) = (counters("a"), counters("b"));
        let none = unrouted.counters(None, BTreeSet::from(["shed"]));
        let mut tally = ErrorTally::of_buckets(["a", "b"].into_iter());
        for read in 1..3_u64 {
            a.count("shed");
            b.count("shed");
            b.count("host");
            none.count("shed");
            tally.read(&[errors.clone(), unrouted.clone()]);
            let shed = |bucket| tally.of_reason("shed", bucket);
            assert_eq!((shed(Some(0)), shed(Some(1)), shed(None)), (read, read, 3 * read));
            assert_eq!((tally.of_reason("host", Some(0)), tally.of_reason("host", None)), (0, read));
            assert_eq!((tally.of_reason("x", None), tally.all(), tally.unrouted()), (0, 4 * read, read));
        }
    }
}
