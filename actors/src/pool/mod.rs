//! The pool of one bucket: permits for its upstream, the wait queue, and the choice of endpoint and credential (P3,
//! P4).
//!
//! One actor per bucket, so that a failed pool means 503 for that bucket only. A request asks once and gets a permit:
//! room in the bucket's gate, an endpoint, and a credential if the bucket has named ones. `Drop` releases all of them.
//! If the gate is full the request waits in a bounded queue (`queue/`); a released permit goes to the head of
//! the queue before a newcomer.
//!
//! The pool also owns the endpoints' health, the adaptive limit, the retry budget (R5) and hedged reads (`hedge/`). It
//! does not own connections, which belong to each worker's client, and it makes no health checks.
//!
//! *Restart*: a crash in `decide` keeps the state. If it was dirty, the waiters are dropped (they get `Crashed`), the
//! live tickets keep the counts, and exclusions stay. *While failed*: 503 for this bucket; granted permits stay valid.
//! See `docs/design/queue-and-permits.md`.

mod actor;
mod adaptive;
mod bounds;
mod credentials;
mod decision;
mod further_attempts;
mod gate;
mod handle;
mod handover;
mod hedge;
mod load_balancer;
mod metrics;
mod operator_drain;
mod parts;
mod peek;
mod queue;
mod queue_cursor;
mod queue_wait;
mod rejection;
mod retry_budget;
mod slow_clients;
mod state;
mod succession;
#[cfg(test)]
mod test_waiter;

pub(crate) use actor::Pool;
pub use adaptive::adaptive_limit::LimitCause;
pub use adaptive::limit_samples::{LimitView, OverloadSignal};
pub(crate) use bounds::PoolBounds;
pub use credentials::credential::{
    CredentialError, CredentialId, CredentialState, CredentialTicket, CredentialView,
};
pub use credentials::refusal_evidence::{CredentialCheckResult, RequestFingerprints};
pub(crate) use decision::{AcquireDecision, AcquireRefusal, WaitRejection, WaitRejectionCause};
#[cfg(any(test, feature = "simulation"))]
pub(crate) use gate::permit_cache;
pub(crate) use gate::ticket::GateShared;
pub use gate::ticket::{EndpointId, EndpointTicket, Permit};
pub use handle::{PoolHandle, PoolView};
pub(crate) use handover::{ExportedPool, PermitsInUse};
pub use hedge::{HedgeRefusal, ReadKind};
pub(crate) use load_balancer::LoadBalancer;
pub use load_balancer::endpoint::{EndpointState, FailureKind};
pub(crate) use load_balancer::endpoint_stats::EndpointStatsTable;
pub use load_balancer::endpoint_stats::EndpointView;
pub(crate) use load_balancer::settings::LoadBalancerSettings;
pub use load_balancer::tier::{FailoverView, ServingView};
pub(crate) use metrics::{PoolFamilies, PoolMetrics};
pub use operator_drain::{Drain, DrainOrder, DrainTarget, DrainView};
pub(crate) use parts::PoolParts;
pub use peek::PeekedPermit;
pub(crate) use queue_cursor::QueueCursor;
pub use rejection::PoolRejection;
pub(crate) use retry_budget::RetryBudget;
pub use retry_budget::{RetriesInUse, RetryTicket};
pub(crate) use state::{PoolState, Waiter};
pub(crate) use succession::{PoolSeed, ReplacedPool};
