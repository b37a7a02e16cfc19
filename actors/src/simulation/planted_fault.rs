//! Faults put in on purpose: a checker that never finds anything may not be looking.

/// A gateway that is wrong in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedFault {
    /// Now and then a permit is never given back.
    LeakPermits,
    /// Now and then a slot is never given back.
    LeakSlots,
    /// Half of those who hang up while they wait for a circuit keep their places.
    LeakCircuitWaits,
    /// A permit is given back when the call begins, not when it ends.
    ReleaseEarly,
    /// Whose question the limiter crashed over is let in.
    AdmitOnCrash,
    /// Whose question the pool crashed over calls all the same.
    GrantOnCrash,
    /// An open circuit is taken for a closed one.
    IgnoreOpenCircuit,
    /// A limiter that crashed starts over from nothing.
    ResetLimiter,
    /// A pool that crashed starts over from nothing.
    ResetPool,
    /// A breaker that crashed starts over from nothing.
    ResetBreaker,
    /// Actors serve their newest message first.
    NewestFirst,
    /// Messages are lost now and then, without a crash.
    LoseMessages,
    /// Whoever hangs up while waiting is never cleaned up after.
    KeepDisconnected,
    /// Actors are busy for ever and get nothing done.
    StallActors,
}

impl PlantedFault {
    /// All of them.
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

    /// Whether an actor of this name starts over when it crashes.
    pub(super) fn resets(self, actor: &str) -> bool {
        match self {
            Self::ResetLimiter => actor == "limiter",
            Self::ResetBreaker => actor.starts_with("breaker:"),
            Self::ResetPool => actor.starts_with("pool:"),
            _ => false,
        }
    }
}
