//! One bucket's upstream: which endpoint, and how many requests at once (P3, P4).
//!
//! An actor per bucket, so that a failed pool is a 503 for that bucket only. A request asks once and gets a permit:
//! a place in the bucket's gate and an endpoint, both given back by `Drop`. When the gate is full the request
//! waits in a bounded queue (`line.rs`), first come first served within its class; a permit that falls free belongs to the head of the
//! queue before a newcomer can take it, and a waiter that has left passes it on.
//!
//! ```text
//! ask ── gate free and nobody waits ──▶ permit ──drop──▶ live − 1 ──▶ somebody waits? nudge ──▶ permit to the head
//!   └── gate full ──▶ queue (bounded) ──▶ permit │ queue deadline │ caller left │ displaced by a higher class │ too old in overload
//!         └── queue full, or its turn would come too late ──▶ refused at once
//! ```
//!
//! First come, first served is wrong once more comes than is served: where the bucket says so, overload is told from a burst
//! (`codel.rs`), and ends the wait of the oldest instead of everybody's.
//!
//! How fast the queue drains is measured while somebody waits (`drain.rs`). Whoever would wait in vain for that, or finds the queue
//! full, is told at once when to come back.
//!
//! How often a bucket may try again beside its requests is the pool's to say too, see `budget.rs`, and when and how often it may
//! ask for a slow read a second time, see `hedge/`.
//! Where a gate is wide, permits pass from request to request on a thread without an ask, see `stash.rs`.
//!
//! *Restart*: a crash in `decide` keeps the queue. Found dirty, the waiters are dropped (they see `Crashed`) and the
//! live permits are what the live tickets say: their count never was the actor's to lose. How fast the queue drained is forgotten,
//! and whether it was overloaded: until that is known again a request may wait in vain, for its deadline at most.
//! Endpoints that were left out stay so.
//! *While failed*: 503 for this bucket; permits already out stay good.
//!
//! Where a bucket has credentials with names, a permit holds a place with one of them too (`roster.rs`, `credential.rs`), reserved in
//! the same message; who waits for one waits in the same queue. With none nothing of that is done.
//!
//! Among several endpoints `rotation.rs` chooses, by what calls and checks say of each (`endpoint.rs`). Successes only count,
//! outside the mailbox (`signs.rs`); failures are told. With one endpoint nothing is told or measured.
//! Where `concurrency.adaptive` is on, how wide the gate is within its bounds is learnt: `adaptive.rs` decides, requests count into
//! `samples.rs`, and the actor looks whenever it handles an ask or a nudge. A limit that falls below the permits that are out
//! revokes none: nobody is granted one until enough have come back. Of what was learnt a crash in `decide` loses nothing; found dirty, the
//! limit begins anew at its floor.
//! One client may hold half of the gate with requests that wait for it (`slow_clients.rs`, `client_waits.rs`); the table of these survives
//! a restart with its live entries.
//! Deliberately absent: connections, which belong to each worker's client; making the checks, which is the HTTP side's.

mod actor;
mod adaptive_limit;
mod codel;
mod credential;
mod credential_actor;
mod credential_handle;
mod credential_metrics;
mod credential_selector;
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
pub use handle::{PoolHandle, PoolRejection, PoolView};
pub(crate) use hedge::Hedging;
pub use hedge::{HedgeRefusal, ReadKind};
pub(crate) use limit_samples::LimitLearner;
pub use limit_samples::{LimitView, OverloadSignal};
pub(crate) use load_balancer::LoadBalancer;
pub(crate) use load_balancer_settings::LoadBalancerSettings;
pub(crate) use metrics::{PoolFamilies, PoolMetrics};
pub use refusal_evidence::{CredentialCheckResult, RequestFingerprints};
pub(crate) use retry_budget::RetryBudget;
pub use retry_budget::RetryTicket;
pub(crate) use state::PoolState;
pub(crate) use suspect_credentials::SuspectCredentials;
pub(crate) use ticket::GateShared;
pub use ticket::{EndpointId, EndpointTicket, Permit};
pub(crate) use wake_timer::WakeTimer;
