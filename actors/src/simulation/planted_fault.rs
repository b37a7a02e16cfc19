//! Faults planted in the product or its surroundings, to show that the checks detect them.

/// A single fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedFault {
    /// Some permits are never released.
    LeakPermits,
    /// Some slots are never released.
    LeakSlots,
    /// Half of the clients that disconnect while they wait for a circuit keep their waiters.
    LeakCircuitWaits,
    /// A permit is released when the call begins, not when it ends.
    ReleaseEarly,
    /// A request is admitted if the limiter crashed over its message.
    AdmitOnCrash,
    /// A request calls the upstream if the pool crashed over its message.
    GrantOnCrash,
    /// An open circuit is treated as closed.
    IgnoreOpenCircuit,
    /// A crash resets the limiter's state.
    ResetLimiter,
    /// A crash resets the pool's state.
    ResetPool,
    /// A crash resets the breaker's state.
    ResetBreaker,
    /// Actors handle their newest message first.
    NewestFirst,
    /// Some messages are lost without a crash.
    LoseMessages,
    /// Disconnected clients are never dropped.
    KeepDisconnected,
    /// Actors report progress but handle nothing.
    StallActors,
}

impl PlantedFault {
    /// All faults.
    pub const ALL: [Self; 14] = [
        Self::LeakPermits,
        Self::LeakSlots,
        Self::LeakCircuitWaits,
        Self::ReleaseEarly,
        Self::AdmitOnCrash,
        Self::GrantOnCrash,
        Self::IgnoreOpenCircuit,
        Self::ResetLimiter,
        Self::ResetPool,
        Self::ResetBreaker,
        Self::NewestFirst,
        Self::LoseMessages,
        Self::KeepDisconnected,
        Self::StallActors,
    ];

    /// Whether a crash of the actor with this name resets its state.
    pub(super) fn resets(self, actor: &str) -> bool {
        match self {
            Self::ResetLimiter => actor == "limiter",
            Self::ResetBreaker => actor.starts_with("breaker:"),
            Self::ResetPool => actor.starts_with("pool:"),
            _ => false,
        }
    }
}
