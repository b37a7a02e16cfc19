//! All policy state of the gateway, in supervised actors.
//!
//! Each component is a folder with the same files: `state.rs` is a pure state machine, `actor.rs` has the messages
//! and a thin shell, `handle.rs` is the API for callers, `metrics.rs` has the metrics. `system.rs` creates all
//! actors. This crate depends on actix, but contains neither HTTP nor a client: it decides, and its callers act.
//! Supervision and the crash rule are in `docs/design/supervision.md` and `docs/design/crash-rule.md`.

mod actor_shell;
mod actor_stats;
mod ask_timeout;
mod breaker;
mod change_queue;
mod chaos;
mod client_counts;
mod client_waits;
pub mod clock;
mod count;
pub mod descriptors;
pub mod ephemeral_ports;
mod events;
mod handover;
mod ids;
mod intensity;
mod latest_settings;
mod launches;
mod lazy_counter;
mod limit_share;
mod limiter;
mod mailbox;
mod metrics;
mod monitor;
mod persistent_file;
mod pool;
mod reconfigure;
pub mod replay;
mod seeded_rng;
mod sessions;
mod shedding;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod spawner;
mod supervisor;
mod sync;
mod system;
mod trip;
mod types;
mod wake_up;

pub use actor_stats::{ActorStats, ActorStatus};
pub use breaker::{
    BreakerHandle, BreakerReconfigure, BreakerRejection, BreakerTicket, BreakerView, CircuitCheck, CircuitId,
    CircuitState, FailureCause, Outcome, ProbedCircuit,
};
pub use chaos::{Crash, CrashPoint, Stall, UnknownCrashPoint};
pub use client_counts::ClientTicket;
pub use client_waits::{ClientWaitTicket, WaitCut};
pub use events::{ActorChange, ActorEventSink};
pub use handover::{ActorsState, PredecessorUse};
pub use ids::{Id, IdMap, Ids};
pub use launches::{Launch, Launches};
pub use lazy_counter::LazyCounter;
pub use limiter::{
    Allowed, LadderKey, LimitScope, LimitScopes, LimitStatus, LimiterHandle, LimiterReconfigure,
    LimiterRejection, LimiterReport, PeekedLimit, RateLadder,
};
pub use mailbox::AskError;
pub use monitor::{
    Action, ActionEntry, ActionRule, ActionSet, ActionView, ClientAdmission, Comparison, DiskSpace,
    InFlightSlot, InForce, Level, LevelReason, LevelTransition, LimitSource, LogProbe, MemorySource,
    MemoryUse, MonitorHandle, MonitorPeaks, MonitorReconfigure, MonitorRejection, MonitorView,
    OverloadActions, Reading, ResourceView, Sensor, Shedding, Subject, system_memory_limit,
};
pub use pool::{
    CredentialCheckResult, CredentialError, CredentialId, CredentialState, CredentialTicket, CredentialView,
    Drain, DrainOrder, DrainTarget, DrainView, EndpointId, EndpointState, EndpointTicket, EndpointView,
    FailoverView, FailureKind, HedgeRefusal, LimitCause, LimitView, OverloadSignal, PeekedPermit, Permit,
    PoolHandle, PoolRejection, PoolView, ReadKind, RequestFingerprints, RetriesInUse, RetryTicket,
    ServingView,
};
pub use reconfigure::{ActorsReconfigure, ConfigWithIds, Withdrawn};
pub use sessions::{
    ClientIdentity, CredentialFingerprint, InvalidSessionId, KeyFingerprint, SessionId, SessionsHandle,
    SessionsReconfigure, SessionsReport, SigningKey, SigningKeyId, TokenHash, VerifiedToken,
};
pub use shedding::{
    ClassCountsView, ClassCutView, ClientCost, CostSampler, CursorCause, CutRule, LagMeter, ProcessWaits,
    Shed, Shedder, SheddingDecision, SheddingHandle, SheddingView, ThreadCpuFile, ThreadCpuTime, WaitReading,
    WorkerLagView,
};
pub use system::{ActorSystem, Actors, UnknownActor, prepare};
pub use trip::{EjectionRule, EjectionTrip, RefusalProof, Trip, TripRule};
pub use types::{BucketId, ClientId, ConfigNumber, IpKey, KeyId, OperationClass};
