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
mod adaptive;
mod alarm;
mod budget;
mod codel;
mod credential;
mod credential_metrics;
mod doubt;
mod drain;
mod endpoint;
mod handle;
mod hedge;
mod latencies;
mod line;
mod metrics;
mod roster;
mod roster_actor;
mod roster_handle;
mod rotation;
mod rules;
mod samples;
mod signs;
#[cfg(test)]
mod slot;
mod slow_clients;
pub(crate) mod stash;
mod state;
mod suspects;
mod ticket;

pub(crate) use actor::{Nudge, Pool, PoolNames};
pub use adaptive::LimitCause;
pub(crate) use alarm::Alarm;
pub(crate) use budget::Budget;
pub use budget::RetryTicket;
pub(crate) use codel::Delay;
pub(crate) use credential::CredentialSigns;
pub use credential::{CredentialId, CredentialStanding, CredentialTicket, CredentialView, Setback};
pub use doubt::{CredentialCheck, Evidence};
pub use endpoint::{Standing, Strike};
pub(crate) use handle::PoolBounds;
pub use handle::{PoolHandle, PoolRejection, PoolView};
pub(crate) use hedge::Hedging;
pub use hedge::{HedgeRefusal, ReadKind};
pub(crate) use metrics::{PoolFamilies, PoolMetrics};
pub(crate) use roster::Roster;
pub(crate) use rotation::Rotation;
pub(crate) use rules::Rules;
pub(crate) use samples::Learner;
pub use samples::{LimitView, Pressure};
pub use signs::EndpointView;
pub(crate) use signs::Signs;
pub(crate) use state::PoolState;
pub(crate) use suspects::Suspects;
pub(crate) use ticket::GateShared;
pub use ticket::{EndpointId, EndpointTicket, Permit};
