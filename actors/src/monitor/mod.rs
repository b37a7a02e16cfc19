//! Resource monitoring: how close the process is to its limits, and which functions it gives up (X1–X4, X8, P2, S8).
//!
//! The monitor samples `sensors/` every `monitor.interval_ms` and derives one level (`state.rs`). Handlers read the published
//! actions in force, an atomic, and acquire an in-flight slot, a counter, so overload is refused without an ask. `actions.rs` has the
//! table of what each level switches off, shrinks or refuses. Between two samples `headroom.rs` bounds the requests in flight by the
//! free memory. The rules are in `docs/design/memory.md` and `docs/design/supervision.md`.
//!
//! ```text
//! normal ──≥ warning──▶ warning ──≥ critical──▶ critical ──≥ exhausted──▶ exhausted        up: at once
//!    ◀────< recover─────    ◀─────< warning─────     ◀──────< critical──────              down: after `dwell` without need
//! ```
//! A reload replaces the settings in place (`settings.rs`); a restart has the latest ones.
//! *Restart*: a crash in `decide` keeps the state. If dirty, the last published level holds, stale until the first sample, taken at once.
//! Slots and per-client tickets (`clients.rs`) stay counted. *While failed*: the last level holds, also for shedding, and the view is
//! stale. Forms, and requests where `concurrency.max_per_client` is set, are refused. The supervisor restarts the monitor within ten
//! seconds.

mod actions;
mod actor;
mod clients;
mod handle;
mod headroom;
mod in_force;
mod level;
mod log_probe;
mod measurement;
mod metrics;
mod notices;
mod process_cursor;
mod reading;
mod reason;
mod relief;
mod sensor;
mod sensors;
mod settings;
mod stall_watch;
mod state;
mod view;

pub use actions::{Action, ActionEntry, ActionRule, ActionSet, InForce};
pub(crate) use actor::Monitor;
pub use clients::ClientAdmission;
pub use handle::{InFlightSlot, MonitorHandle, MonitorPeaks, MonitorRejection, Shedding};
pub use in_force::{ActionView, OverloadActions};
pub use level::Level;
pub use log_probe::{DiskSpace, LogProbe};
pub use measurement::{LimitSource, Subject};
pub(crate) use process_cursor::ProcessCursor;
pub use reading::{MemorySource, MemoryUse, Reading};
pub use reason::{Comparison, LevelReason};
pub use sensor::Sensor;
pub use sensors::system_memory_limit;
pub use settings::MonitorReconfigure;
pub(crate) use settings::MonitorSettings;
pub use state::LevelTransition;
pub use view::{MonitorView, ResourceView};
