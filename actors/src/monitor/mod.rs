//! Resource monitoring: how close the process is to its limits, and which functions it gives up (X1–X4, X8, P2, S8).
//!
//! The monitor samples `sensors/` every `monitor.interval_ms` and derives one level (`state.rs`). Handlers read the published
//! level, an atomic, and acquire an in-flight slot, a counter, so overload is refused without an ask. `critical` switches optional
//! work off; `exhausted` sheds new requests. Between two samples `headroom.rs` bounds the requests in flight by the free memory.
//! The rules are in `docs/design/memory.md` and `docs/design/supervision.md`.
//!
//! ```text
//! normal ──≥ warning──▶ warning ──≥ critical──▶ critical ──≥ exhausted──▶ exhausted        up: at once
//!    ◀────< recover─────    ◀─────< warning─────     ◀──────< critical──────              down: after `dwell` without need
//! ```
//! *Restart*: a crash in `decide` keeps the state. If dirty, the last published level holds, stale until the first sample, taken at once.
//! Slots and per-client tickets (`clients.rs`) stay counted. *While failed*: the last level holds, also for shedding, and the view is
//! stale. Forms, and requests where `concurrency.max_per_client` is set, are refused. The supervisor restarts the monitor within ten
//! seconds.

mod actor;
mod clients;
mod handle;
mod headroom;
mod level;
mod metrics;
mod process_cursor;
mod reading;
mod reason;
mod sensors;
mod stall_watch;
mod state;
mod view;

pub(crate) use actor::Monitor;
pub use handle::{InFlightSlot, MonitorHandle, MonitorRejection};
pub use level::Level;
pub(crate) use process_cursor::{ProcessCursor, pressure_threshold};
pub use reading::{MemorySource, MemoryUse, Reading, Sensor};
pub use reason::{Comparison, LevelReason};
pub use sensors::system_memory_limit;
pub use state::LevelTransition;
pub use view::MonitorView;
