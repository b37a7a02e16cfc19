//! Faults planted in a reload, to show that the checks detect them.

/// A single fault of reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadFault {
    /// IDs are positions in the configuration.
    IdsByPosition,
    /// Sessions and signing keys of withdrawn keys stay in the cache.
    KeepWithdrawn,
    /// A request uses the pool of the current configuration with its own configuration's endpoints.
    MixConfigurations,
    /// A reload resets the limiter's times.
    ResetLimiter,
    /// The limiter keeps the limits of the replaced configuration.
    KeepOldLimits,
    /// A successor of a pool does not share the gate.
    SeparateGates,
    /// A reload closes the circuits.
    CloseCircuits,
    /// The actors of a retired configuration are not stopped.
    KeepActors,
    /// The limits of names that no configuration has stay.
    KeepLimits,
    /// The metrics of a retired configuration are observed once more.
    ReviveSeries,
}

impl ReloadFault {
    /// All faults.
    pub const ALL: [Self; 10] = [
        Self::IdsByPosition,
        Self::KeepWithdrawn,
        Self::MixConfigurations,
        Self::ResetLimiter,
        Self::KeepOldLimits,
        Self::SeparateGates,
        Self::CloseCircuits,
        Self::KeepActors,
        Self::KeepLimits,
        Self::ReviveSeries,
    ];
}
