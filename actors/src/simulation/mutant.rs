//! Faults put in on purpose: a checker that never finds anything may not be looking.

/// A gateway that is wrong in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Now and then a permit is never given back.
    ForgetsPermits,
    /// Now and then a slot is never given back.
    ForgetsSlots,
    /// Half of those who hang up while they wait for a circuit keep their places.
    ForgetsHeld,
    /// A permit is given back when the call begins, not when it ends.
    ReleasesEarly,
    /// Whose question the limiter crashed over is let in.
    CrashAdmits,
    /// Whose question the pool crashed over calls all the same.
    CrashGrants,
    /// An open circuit is taken for a closed one.
    DeafToOpen,
    /// A limiter that crashed starts over from nothing.
    LimiterStartsOver,
    /// A pool that crashed starts over from nothing.
    PoolStartsOver,
    /// A breaker that crashed starts over from nothing.
    BreakerStartsOver,
    /// Actors serve their newest message first.
    NewestFirst,
    /// Messages are lost now and then, without a crash.
    LosesMessages,
    /// Whoever hangs up while waiting is never cleaned up after.
    KeepsTheDead,
    /// Actors are busy for ever and get nothing done.
    Stutters,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ForgetsPermits,
        Self::ForgetsSlots,
        Self::ForgetsHeld,
        Self::ReleasesEarly,
        Self::CrashAdmits,
        Self::CrashGrants,
        Self::DeafToOpen,
        Self::LimiterStartsOver,
        Self::PoolStartsOver,
        Self::BreakerStartsOver,
        Self::NewestFirst,
        Self::LosesMessages,
        Self::KeepsTheDead,
        Self::Stutters,
    ];

    /// Whether an actor of this name starts over when it crashes.
    pub(super) fn starts_over(self, actor: &str) -> bool {
        match self {
            Self::LimiterStartsOver => actor == "limiter",
            Self::BreakerStartsOver => actor.starts_with("breaker:"),
            Self::PoolStartsOver => actor.starts_with("pool:"),
            _ => false,
        }
    }
}
