//! All policy state of tidegate, in supervised actors.
//!
//! Each component is a folder of the same shape: `state.rs` a pure machine, `actor.rs` its messages and thin shell,
//! `handle.rs` what callers see, `metrics.rs`. `system.rs` makes them all. This crate knows actix, but neither HTTP nor any
//! client: it decides, others act.

mod actor_shell;
mod actor_stats;
mod ask_timeout;
mod breaker;
mod chaos;
mod client_counts;
mod client_waits;
pub mod clock;
mod count;
pub mod descriptors;
mod intensity;
mod launches;
mod limiter;
mod mailbox;
mod metrics;
mod monitor;
mod pool;
mod sessions;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod supervisor;
mod sync;
mod system;
mod types;

pub use actor_stats::{ActorStats, ActorStatus};
pub use breaker::{
    BreakerHandle, BreakerRejection, BreakerTicket, BreakerView, CircuitCheck, CircuitId, CircuitState,
    FailureCause, Outcome, ProbedCircuit,
};
pub use chaos::{Crash, CrashPoint, Stall, UnknownCrashPoint};
pub use client_counts::ClientTicket;
pub use client_waits::ClientWaitTicket;
pub use launches::{Launch, Launches};
pub use limiter::{
    Allowed, LimitScope, LimitScopes, LimitStatus, LimiterHandle, LimiterRejection, LimiterReport,
};
pub use mailbox::AskError;
pub use monitor::{
    Comparison, InFlightSlot, Level, LevelReason, LevelTransition, MemorySource, MemoryUse, MonitorHandle,
    MonitorRejection, MonitorView, Reading, Sensor, system_memory_limit,
};
pub use pool::{
    CredentialCheckResult, CredentialError, CredentialId, CredentialState, CredentialTicket, CredentialView,
    EndpointId, EndpointState, EndpointTicket, EndpointView, FailureKind, HedgeRefusal, LimitCause,
    LimitView, OverloadSignal, Permit, PoolHandle, PoolRejection, PoolView, ReadKind, RequestFingerprints,
    RetryTicket,
};
pub use sessions::{
    ClientIdentity, InvalidSessionId, KeyFingerprint, SessionId, SessionsHandle, SessionsReport, SigningKey,
    SigningKeyId, TokenHash, VerifiedToken,
};
pub use system::{ActorSystem, Actors, UnknownActor, prepare};
pub use types::{BucketId, ClientId, IpKey, KeyId, OperationClass};
