//! Faults planted in a hand-over, to show that the checks detect them.

/// A single fault of a hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoverFault {
    /// The times of the limits do not cross.
    ForgetLimits,
    /// Tokens become free at the predecessor after the hand-over.
    KeepRefilling,
    /// The successor does not hold what the predecessor may still use.
    ForgetPredecessor,
    /// The circuits do not cross.
    CloseCircuits,
}

impl HandoverFault {
    /// All faults.
    pub const ALL: [Self; 4] =
        [Self::ForgetLimits, Self::KeepRefilling, Self::ForgetPredecessor, Self::CloseCircuits];
}
