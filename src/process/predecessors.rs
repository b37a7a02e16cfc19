//! The predecessor of this process: the process before it, which drains after an upgrade (G8).
//!
//! There is at most one, because an upgrade is refused until the predecessor of the last one has ended.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Serialize;
use tidegate_actors::PredecessorUse;

use super::drain_progress::DrainProgress;

/// A predecessor, as `/status` shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Predecessor {
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// When it handed over, in RFC 3339.
    pub(crate) since: String,
    /// Its last report of its drain; none before the first.
    pub(crate) drain: Option<DrainProgress>,
    /// What it may still use of each limit, by the same report.
    pub(crate) limits: Option<PredecessorUse>,
}

/// The predecessors that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Predecessors(ArcSwapOption<Predecessor>);

impl Predecessors {
    /// Replaces what is known.
    pub(crate) fn set(&self, predecessor: Predecessor) {
        self.0.store(Some(Arc::new(predecessor)));
    }

    /// The predecessor has ended.
    pub(crate) fn remove(&self) {
        self.0.store(None);
    }

    pub(crate) fn list(&self) -> Vec<Predecessor> {
        self.0.load_full().iter().map(|predecessor| Predecessor::clone(predecessor)).collect()
    }
}
