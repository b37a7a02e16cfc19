//! The circuits of one bucket, one for each operation class.
//!
//! Listings are the first operations to fail in an overloaded store, and writes fail when it is full; both are
//! weak evidence about reads. So a bucket has one circuit per class, or a single circuit if `circuit_breaker.per_operation` is
//! off. An ID is the index in the bucket's tables and has no meaning outside its bucket.
//!
//! A failure in one class does not count in the others. Each class detects a dead upstream after its own failures,
//! and none waits for another to recover.

use crate::types::OperationClass;

/// One circuit of a bucket, as an index into the bucket's tables of circuits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CircuitId(u8);

impl CircuitId {
    /// The circuit of a class, or the single circuit if `per_operation` is off.
    pub(crate) fn for_class(class: OperationClass, per_operation: bool) -> Self {
        Self(if per_operation { class.index() } else { 0 })
    }

    /// Number of circuits of a bucket.
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

    /// B1: every class has its own circuit, or all classes share the single one
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
