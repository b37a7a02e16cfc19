//! The pool of one bucket: permits for its upstream, the wait queue, and the choice of endpoint and credential (P3,
//! P4).
//!
//! One actor per bucket, so that a failed pool means 503 for that bucket only. A request asks once and gets a permit:
//! room in the bucket's gate, an endpoint, and a credential if the bucket has named ones. `Drop` releases all of them.
//! If the gate is full the request waits in a bounded queue (`wait_queue.rs`); a released permit goes to the head of
//! the queue before a newcomer.
//!
//! The pool also owns the endpoints' health, the adaptive limit, the retry budget (R5) and hedged reads (`hedge/`). It
//! does not own connections, which belong to each worker's client, and it makes no health checks.
//!
//! *Restart*: a crash in `decide` keeps the state. If it was dirty, the waiters are dropped (they get `Crashed`), the
//! live tickets keep the counts, and exclusions stay. *While failed*: 503 for this bucket; granted permits stay valid.
//! See `docs/design/queue-and-permits.md`.

mod actor;
mod adaptive_limit;
mod codel;
mod credential;
mod credential_actor;
mod credential_handle;
mod credential_metrics;
mod credential_selector;
mod decision;
mod endpoint;
mod endpoint_stats;
mod handle;
mod hedge;
mod latency_histogram;
mod limit_samples;
mod load_balancer;
mod load_balancer_settings;
mod metrics;
pub(crate) mod permit_cache;
mod queue_throughput;
mod refusal_evidence;
mod rejection;
mod retry_budget;
mod slow_clients;
mod state;
mod suspect_credentials;
#[cfg(test)]
mod test_waiter;
mod ticket;
mod wait_queue;
mod wake_timer;

pub(crate) use actor::{Pool, PoolNames, WakeQueue};
pub use adaptive_limit::LimitCause;
pub(crate) use codel::CodelSettings;
pub(crate) use credential::CredentialStats;
pub use credential::{CredentialError, CredentialId, CredentialState, CredentialTicket, CredentialView};
pub(crate) use credential_selector::CredentialSelector;
pub use endpoint::{EndpointState, FailureKind};
pub(crate) use endpoint_stats::EndpointStatsTable;
pub use endpoint_stats::EndpointView;
pub(crate) use handle::PoolBounds;
pub use handle::{PoolHandle, PoolView};
pub(crate) use hedge::Hedging;
pub use hedge::{HedgeRefusal, ReadKind};
pub(crate) use limit_samples::LimitLearner;
pub use limit_samples::{LimitView, OverloadSignal};
pub(crate) use load_balancer::LoadBalancer;
pub(crate) use load_balancer_settings::LoadBalancerSettings;
pub(crate) use metrics::{PoolFamilies, PoolMetrics};
pub use refusal_evidence::{CredentialCheckResult, RequestFingerprints};
pub use rejection::PoolRejection;
pub(crate) use retry_budget::RetryBudget;
pub use retry_budget::RetryTicket;
pub(crate) use state::PoolState;
pub(crate) use suspect_credentials::SuspectCredentials;
pub(crate) use ticket::GateShared;
pub use ticket::{EndpointId, EndpointTicket, Permit};
pub(crate) use wake_timer::WakeTimer;
