//! Which of a bucket's circuits a request belongs to.
//!
//! Listing is what stores fail at first, writing what they refuse when they are full: neither says much about reading. So a
//! bucket has a circuit for each, unless its configuration wants one for all. Circuits are few and small, hence the table
//! has a place for every class of every bucket, used or not, and an ID is an index.
//! Deliberately absent: a failure in one class that counts in the others. An upstream that is gone is found out by each
//! class after its own few failures, and none of them waits for another to be well.

use crate::types::{BucketId, OperationClass};

/// Circuits that a bucket has at most.
const CLASSES: u32 = OperationClass::ALL.len() as u32;

/// One circuit, as an index into every per-circuit table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CircuitId(u32);

impl CircuitId {
    /// A bucket that does not tell operations apart has its one circuit where those of reads would be.
    pub(crate) fn of(bucket: BucketId, class: OperationClass, per_operation: bool) -> Self {
        let place = if per_operation { class.place() } else { 0 };
        Self(u32::from(bucket.number()) * CLASSES + place)
    }

    /// The place in a per-circuit table.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// The place of its bucket in a per-bucket table.
    pub(crate) fn bucket_index(self) -> usize {
        (self.0 / CLASSES) as usize
    }
}

/// A bucket's circuits, with the words that tell them apart.
pub(crate) fn circuits(
    bucket: BucketId,
    per_operation: bool,
) -> impl Iterator<Item = (CircuitId, &'static str)> {
    let classes = if per_operation { &OperationClass::ALL[..] } else { &OperationClass::ALL[..1] };
    classes.iter().map(move |&class| {
        let word = if per_operation { class.as_str() } else { "all" };
        (CircuitId::of(bucket, class, per_operation), word)
    })
}

/// Places that so many buckets take in a per-circuit table.
pub(crate) fn places(buckets: usize) -> usize {
    buckets * CLASSES as usize
}

/// Buckets that have so many places.
pub(super) fn buckets(places: usize) -> usize {
    places / CLASSES as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// B1: every circuit has a place of its own, and one for all takes no other's
    #[test]
    fn circuits_do_not_share_places() {
        let (a, b) = (BucketId::new(0), BucketId::new(1));
        let all: Vec<CircuitId> =
            circuits(a, true).chain(circuits(b, false)).map(|(circuit, _)| circuit).collect();
        let indices: BTreeSet<usize> = all.iter().map(|circuit| circuit.index()).collect();
        assert_eq!((all.len(), indices.len()), (4, 4));
        assert!(indices.iter().all(|index| *index < places(2)));
        let buckets: Vec<usize> = all.iter().map(|circuit| circuit.bucket_index()).collect();
        assert_eq!(buckets, [0, 0, 0, 1]);
        let listing = CircuitId::of(b, OperationClass::List, false);
        assert_eq!(listing, CircuitId::of(b, OperationClass::Read, false));
    }
}
