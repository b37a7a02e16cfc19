//! One circuit per bucket: an upstream that fails is left alone for a while, then tried carefully (B1–B5).
//!
//! Five failures in a row, or half of the last hundred calls, open the circuit; while it is open a request is refused
//! before it costs anything. After the time-out a few trials go through, each with a permit; two successes close it,
//! one failure opens it again for twice as long.
//!
//! ```text
//!          failures in a row, or rate            until passed, lazily
//!   closed ──────────────────────────▶ open ──────────────────────────▶ half-open ──▶ closed: enough successes
//!                                       ▲                                  │
//!                                       └──────── one failure: twice ──────┘
//! ```
//!
//! Most requests find the circuit closed and must not pay for it. So the actor publishes each circuit in atomics;
//! "closed" and refusals are read there, and a success is only counted in one, beside the generation it belongs to.
//! A failure goes to the actor at once and takes the successes before it along, so the actor sees the true order;
//! as only a failure can open a circuit, a healthy bucket sends no messages at all. Leave for a trial is never
//! read but asked for: the permit is built in the actor's reply, so that a reply nobody waits for gives it back. If
//! even that is lost, its lease ends after 30 s.
//!
//! Every transition begins a new generation; what a request of an earlier one has to report changes nothing.
//!
//! *Restart*: a crash in `decide` forgets nothing. Found dirty, each circuit is rebuilt from its publication: open stays
//! open until then, half-open opens for a second, closed starts with zero counts; permits and pending results belong
//! to an earlier generation.
//! *While failed*: the published state holds. Closed circuits admit, though nothing can open them; open ones refuse
//! until their time is up, and trials are refused until the actor is back.
//! Deliberately absent: a slow-call rate; timers, as time is looked at when somebody asks; an actor per bucket, as
//! circuits are small and their messages rare.

mod actor;
mod decision;
mod handle;
mod metrics;
mod outcome;
mod published;
mod state;
mod tally;
mod ticket;

pub(crate) use actor::Breaker;
pub use decision::CircuitState;
pub use handle::{BreakerHandle, BreakerRejection, BreakerView, Clearance};
pub(crate) use metrics::BreakerMetrics;
pub use outcome::{Cause, Outcome};
pub(crate) use published::Board;
pub use ticket::BreakerTicket;
