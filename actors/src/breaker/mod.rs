//! Circuit breakers (B1–B5): a failing upstream is not called for a while, then tested with a few trials.
//!
//! Every bucket has its own actor, `breaker:NAME`, with its own mailbox and publication (S10), and a circuit for each
//! operation class (`circuit_id.rs`). Every transition starts a new generation; reports of an earlier one change
//! nothing.
//!
//! States, thresholds, publication, modes, waiting (`circuit_wait.rs`) and connection probes (`connect_probe.rs`) are in
//! `docs/design/circuit-breaker.md`.
//!
//! *Restart*: after a crash in `decide` the state is kept. If dirty, each circuit is rebuilt from its publication:
//! open stays open for its time, half-open opens for 1 s, closed starts with zero counts; permits and pending reports
//! belong to an earlier generation.
//! A configuration changes in place (`reconfigure.rs`, `settings.rs`); a restart has the latest one.
//! *While failed*: the published state holds. Closed circuits admit but cannot open; open ones refuse until their
//! time has elapsed; trials are refused.

mod actor;
mod call_window;
mod circuit_id;
mod circuit_queue;
mod circuit_wait;
mod connect_probe;
mod decision;
mod handle;
mod handover;
mod metrics;
mod outcome;
mod published_circuits;
mod reconfigure;
mod settings;
mod state;
mod ticket;

pub(crate) use actor::Breaker;
pub use circuit_id::CircuitId;
pub use connect_probe::ProbedCircuit;
pub use decision::CircuitState;
pub(crate) use decision::{CircuitRefusal, CircuitTransition, TicketKind};
pub use handle::{BreakerHandle, BreakerRejection, BreakerView, CircuitCheck};
pub(crate) use handover::ExportedBreaker;
pub(crate) use metrics::BreakerFamilies;
pub(crate) use outcome::{AdverseOutcome, CallFailure};
pub use outcome::{FailureCause, Outcome};
pub(crate) use published_circuits::PublishedCircuits;
pub use settings::BreakerReconfigure;
pub(crate) use settings::CircuitSettings;
pub(crate) use state::Circuit;
pub use ticket::BreakerTicket;
