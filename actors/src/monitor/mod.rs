//! Resources: how close the process is to its limits, and what it gives up on the way there (X1–X4, X8, P2, S8).
//!
//! Four times a second the monitor reads its sensors (`sensors/`) and derives one level from them (`state.rs`). Handlers read the
//! published level, an atomic, and take an in-flight slot, a counter: overload is refused without asking anybody. At `critical` what is
//! not needed is switched off, at `exhausted` new requests are shed, before the process is hurt.
//!
//! ```text
//! normal ──≥ warning──▶ warning ──≥ critical──▶ critical ──≥ exhausted──▶ exhausted        up: at once
//!    ◀────< recover─────    ◀─────< warning─────     ◀──────< critical──────              down: after `dwell` without need
//! ```
//!
//! Only the process's own memory and descriptors may reach `exhausted`: slots have a hard cap of their own, and memory of other
//! processes only warns. Memory reaches it only while requests in flight hold enough of it, so that refusing can end it;
//! `docs/design/memory.md` has the rule. Between two samples `headroom.rs` bounds how many requests the free memory is enough for.
//! A sensor that fails keeps its last reading for four intervals; then it is unknown and counts for nothing.
//!
//! It also watches the other actors, and itself, for standing still while messages wait. It needs its own thread: an actor
//! drains its mailbox before its timers run, and sampling would starve exactly under load.
//!
//! *Restart*: a crash in `decide` forgets nothing. Found dirty, the level is the last one published, stale until the
//! first sample, which `started` takes at once. Slots are not the actor's: none is lost or given away.
//! What one client may hold is counted here too (`clients.rs`): slots that wait for it, requests in flight where that is configured, and
//! forms that are being read. These tables survive a restart with their live entries.
//! *While failed*: forms, and requests where `concurrency.max_per_client` is set, are refused. For all others the
//! last level holds, for shedding too, and the view says that it is stale. The supervisor tries again within ten
//! seconds at most, so a level is never held for long by nobody. Deliberately absent: CPU pressure, event-loop lag,
//! shedding the heaviest client first.

mod actor;
mod clients;
mod handle;
mod headroom;
mod level;
mod metrics;
mod reading;
mod reason;
mod sensors;
mod stall_watch;
mod state;
mod view;

pub(crate) use actor::Monitor;
pub use handle::{InFlightSlot, MonitorHandle, MonitorRejection};
pub use level::Level;
pub use reading::{MemorySource, MemoryUse, Reading, Sensor};
pub use reason::{Comparison, LevelReason};
pub use sensors::system_memory_limit;
pub use state::LevelTransition;
pub use view::MonitorView;
