//! The circuits of one bucket, one for each operation class.
//!
//! Listings are the first operations to fail in an overloaded store, and writes fail when it is full; both are
//! weak evidence about reads. So a bucket has one circuit per class, or a single circuit if `circuit_breaker.per_operation` is
//! off. An ID is the index in the bucket's tables and has no meaning outside its bucket.
//!
//! The tables always have the circuits of both layouts, each with an ID of its own. A reload may change the layout, and the
//! requests of the replaced configuration go on with the circuits that they know.
//!
//! A failure in one class does not count in the others. Each class detects a dead upstream after its own failures,
//! and none waits for another to recover.

use crate::types::OperationClass;

/// One circuit of a bucket, as an index into the bucket's tables of circuits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CircuitId(u8);

/// The index of the single circuit, after those of the classes.
const SINGLE: u8 = 3;

impl CircuitId {
    /// Number of circuits in a bucket's tables.
    pub(crate) const COUNT: usize = SINGLE as usize + 1;

    /// The circuit of a class, or the single circuit if `per_operation` is off.
    pub(crate) fn for_class(class: OperationClass, per_operation: bool) -> Self {
        Self(if per_operation { class.index() } else { SINGLE })
    }

    /// The circuits of both layouts, in the order of their indices.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=SINGLE).map(Self)
    }

    /// The circuits of a layout.
    pub(crate) fn of_layout(per_operation: bool) -> impl Iterator<Item = Self> {
        Self::all().filter(move |circuit| (circuit.0 != SINGLE) == per_operation)
    }

    /// The class in status, log and metrics; `all` for the single circuit.
    pub(crate) fn label(self) -> &'static str {
        OperationClass::ALL.get(self.index()).map_or("all", |class| class.as_str())
    }

    /// The index in a table of the bucket's circuits.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B1, G3: every class has its own circuit, or all classes share the single one, and no ID is in both layouts
    #[test]
    fn an_id_is_the_index_in_the_buckets_tables() {
        let indices = |per_operation| CircuitId::of_layout(per_operation).map(CircuitId::index);
        assert_eq!(indices(true).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(indices(false).collect::<Vec<_>>(), [3]);
        assert_eq!(CircuitId::all().count(), CircuitId::COUNT);
        assert_eq!(OperationClass::ALL.len(), usize::from(SINGLE));
        for class in OperationClass::ALL {
            assert_eq!(CircuitId::for_class(class, true).label(), class.as_str());
            assert_eq!(CircuitId::for_class(class, false).label(), "all");
        }
    }
}
