//! All policy state of tidegate, in supervised actors.
//!
//! Each component is a folder of the same shape: `state.rs` a pure machine, `actor.rs` its messages and thin shell,
//! `handle.rs` what callers see, `metrics.rs`. `system.rs` makes them all. This crate knows actix, but neither HTTP nor any
//! client: it decides, others act.

mod breaker;
mod chaos;
mod client_counts;
mod client_waits;
pub mod clock;
mod count;
pub mod descriptors;
mod host;
mod intensity;
mod launches;
mod limiter;
mod mailbox;
mod metrics;
mod monitor;
mod patience;
mod pool;
mod sessions;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod supervisor;
mod sync;
mod system;
mod types;
mod vitals;

pub use breaker::{
    BreakerHandle, BreakerRejection, BreakerTicket, BreakerView, Cause, CircuitId, CircuitState, Clearance,
    Outcome, Unreached,
};
pub use chaos::{Crash, CrashPlace, Stall, UnknownPlace};
pub use client_counts::ClientTicket;
pub use client_waits::WaitTicket;
pub use launches::{Launch, Launches};
pub use limiter::{Allowance, Allowed, LimiterHandle, LimiterRejection, LimiterReport, Scope, Scopes};
pub use mailbox::AskError;
pub use monitor::{
    Comparison, Level, MemorySource, MemoryUse, MonitorHandle, MonitorRejection, MonitorView, Reading,
    Reason, Sensor, Slot, Transition, system_memory_limit,
};
pub use pool::{
    CredentialCheck, CredentialId, CredentialStanding, CredentialTicket, CredentialView, EndpointId,
    EndpointTicket, EndpointView, Evidence, HedgeRefusal, LimitCause, LimitView, Permit, PoolHandle,
    PoolRejection, PoolView, Pressure, ReadKind, RetryTicket, Setback, Standing, Strike,
};
pub use sessions::{
    Bearer, Identity, InvalidSessionId, KeyPrint, SessionId, SessionsHandle, SessionsReport, SigningKey,
    SigningKeyId, TokenHash,
};
pub use system::{Actors, Prepared, UnknownActor, prepare};
pub use types::{BucketId, ClientId, IpKey, KeyId, OperationClass};
pub use vitals::{Status, Vitals};
