//! Circuits for each bucket: an upstream that fails is left alone for a while, then tried carefully (B1–B5).
//!
//! Every bucket has its own actor, `breaker:NAME`, with its own mailbox and publication (S10): a crash storm or a full mailbox in one
//! leaves the circuits of the other buckets as they are.
//!
//! Five failures in a row, half of the last hundred calls failed, or half of them slow, open a circuit; while it is open a
//! request is refused before it costs anything. After the time-out a few trials go through, each with a permit; two
//! successes close it, one failure, or one that takes too long, opens it again for twice as long, up to a bound. The
//! upstream's Retry-After makes that longer, up to the same bound. Reads, writes and listings have a circuit each
//! (`class.rs`).
//!
//! ```text
//!          in a row, or a rate                   until passed, lazily
//!   closed ──────────────────────────▶ open ──────────────────────────▶ half-open ──▶ closed: enough successes
//!                                       ▲                                  │
//!                                       └──────── one failure: twice ──────┘
//! ```
//!
//! Most requests find the circuit closed and must not pay for it. So the actor publishes each circuit in atomics;
//! "closed" and refusals are read there, and a success is only counted in one, beside the generation it belongs to.
//! A failure goes to the actor at once and takes the successes before it along, so the actor sees the true order;
//! as only a failure or a slow call can open a circuit, a healthy bucket sends no messages at all. Leave for a trial is never
//! read but asked for: the permit is built in the actor's reply, so that a reply nobody waits for gives it back. If
//! even that is lost, its lease ends after 30 s.
//!
//! A circuit that opened because nobody could be connected to may be made half-open by a connection (`reach.rs`).
//! Requests that can be repeated may wait for a circuit (`hold.rs`).
//!
//! Every transition begins a new generation; what a request of an earlier one has to report changes nothing.
//!
//! *Modes*: `off` counts and never opens; `shadow` opens, tries and closes as ever, but its handle refuses nobody and counts
//! whom it would have; `forced_open` is open without an end. Calls that only the shadow let through are no evidence.
//!
//! *Restart*: a crash in `decide` forgets nothing. Found dirty, each circuit is rebuilt from its publication: open stays
//! open until then, half-open opens for a second, closed starts with zero counts; permits and pending results belong
//! to an earlier generation.
//! *While failed*: the published state holds. Closed circuits admit, though nothing can open them; open ones refuse
//! until their time is up, and trials are refused until the actor is back.
//! Deliberately absent: timers, as time is looked at when somebody asks; an actor per circuit, as a bucket's circuits share their
//! upstream; slow calls by default, as nobody but the operator knows what slow is.

mod actor;
mod call_window;
mod circuit_id;
mod circuit_queue;
mod circuit_wait;
mod connect_probe;
mod decision;
mod handle;
mod metrics;
mod outcome;
mod published_circuits;
mod state;
mod ticket;

pub(crate) use actor::Breaker;
pub use circuit_id::CircuitId;
pub use connect_probe::ProbedCircuit;
pub use decision::CircuitState;
pub use handle::{BreakerHandle, BreakerRejection, BreakerView, CircuitCheck};
pub(crate) use metrics::BreakerFamilies;
pub use outcome::{FailureCause, Outcome};
pub(crate) use published_circuits::PublishedCircuits;
pub use ticket::BreakerTicket;
