//! Shedding by one cursor for the process and one for each bucket (X11).
//!
//! `waits.rs` measures waits, `cursor.rs` turns them into the cursor (`onset.rs`, `fall.rs`, `class_ladder.rs`,
//! `excess_hold.rs`), `order.rs` has the order of cuts (`fair_share.rs`), `clients.rs` the cost of each client. `owner.rs`
//! moves a cursor: the monitor owns that of the process, each pool that of its bucket. [`Shedder`] is what requests read.
//! While the cursor is 0, a request reads one atomic and nothing else.
//!
//! A reload replaces the settings of the process's cursor, which keeps its position (`CursorOwner::reconfigure`). A bucket has a new
//! cursor with a new pool, and it starts where the old one is (`Shedder::successor`).
//!
//! *Restart*: the published cursor outlives its owner, which goes on from it. While an owner is held down, the cursor
//! stays as it was published.

mod class_ladder;
mod clients;
mod cost_sampler;
mod cursor;
mod event_loop_lag;
mod excess_hold;
mod fair_share;
mod fall;
mod handle;
mod metrics;
mod onset;
mod order;
mod owner;
mod process_waits;
mod published;
mod shedder;
mod thread_cpu;
mod view;
mod waits;

pub use clients::ClientCost;
pub use cost_sampler::CostSampler;
#[cfg(test)]
pub(crate) use cursor::CursorTarget;
pub use event_loop_lag::LagMeter;
pub use handle::SheddingHandle;
pub use order::CutRule;
pub(crate) use owner::{CursorOwner, PressureReading};
pub use process_waits::{ProcessWaits, WorkerLagView};
pub use published::CursorCause;
pub(crate) use shedder::ShedderSettings;
pub use shedder::{Shed, Shedder, SheddingDecision};
pub use thread_cpu::{ThreadCpuFile, ThreadCpuTime};
pub use view::{ClassCountsView, ClassCutView, SheddingView};
pub use waits::WaitReading;
pub(crate) use waits::{WaitTotals, WaitWindow};

#[cfg(test)]
mod overload_tests;
