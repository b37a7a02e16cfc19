//! The circuits of one bucket, by class of operation.
//!
//! Listing is what stores fail at first, writing what they refuse when they are full: neither says much about reading. So a
//! bucket has a circuit for each class, unless `circuit_breaker.per_operation` is off; then one circuit serves all classes.
//! An ID is the index in the bucket's tables and has no meaning outside its bucket.
//! Deliberately absent: a failure in one class that counts in the others. An upstream that is gone is found out by each
//! class after its own few failures, and none of them waits for another to be well.

use crate::types::OperationClass;

/// One circuit of a bucket, as an index into the bucket's tables of circuits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CircuitId(u8);

impl CircuitId {
    /// The circuit of a class; the single circuit where classes are not told apart.
    pub(crate) fn for_class(class: OperationClass, per_operation: bool) -> Self {
        Self(if per_operation { class.index() } else { 0 })
    }

    /// How many circuits a bucket has.
    pub(crate) fn count(per_operation: bool) -> usize {
        labelled_circuits(per_operation).count()
    }

    /// The index in a table of the bucket's circuits.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A bucket's circuits with their class labels, in the order of their indices.
pub(crate) fn labelled_circuits(per_operation: bool) -> impl Iterator<Item = (CircuitId, &'static str)> {
    let classes = if per_operation { &OperationClass::ALL[..] } else { &OperationClass::ALL[..1] };
    classes.iter().map(move |&class| {
        let label = if per_operation { class.as_str() } else { "all" };
        (CircuitId::for_class(class, per_operation), label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B1: every class has its own circuit, or all classes share the one there is
    #[test]
    fn an_id_is_the_index_in_the_buckets_tables() {
        let ids = |per_operation| labelled_circuits(per_operation).map(|(circuit, _)| circuit.index());
        assert_eq!(ids(true).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(ids(false).collect::<Vec<_>>(), [0]);
        for class in OperationClass::ALL {
            assert!(
                labelled_circuits(true).any(|own| own == (CircuitId::for_class(class, true), class.as_str()))
            );
            assert_eq!(CircuitId::for_class(class, false).index(), 0);
        }
    }
}
