//! What the actions on transfers decided about one body, for the records of its request (O4).
//!
//! The transfer writes it, and the request reads it when it ends. A body is paused at most once in an episode of short memory; the last
//! pause is kept.

use std::cell::Cell;

use tidegate_actors::InForce;

use crate::buffers::cut::MemoryCut;

/// The decisions about one transfer.
#[derive(Debug, Default)]
pub(crate) struct TransferDecisions {
    pause: Cell<Option<(InForce, MemoryCut)>>,
    shadow_cut: Cell<Option<MemoryCut>>,
}

impl TransferDecisions {
    /// The reason of a pause.
    pub(crate) const PAUSE: &'static str = "transfer_pause";

    pub(super) fn set_pause(&self, in_force: InForce, figures: MemoryCut) {
        self.pause.set(Some((in_force, figures)));
    }

    /// True the first time.
    pub(super) fn set_shadow_cut(&self, figures: MemoryCut) -> bool {
        self.shadow_cut.replace(Some(figures)).is_none()
    }

    /// The last pause, and whether it was made or only counted.
    pub(crate) fn pause(&self) -> Option<(InForce, MemoryCut)> {
        self.pause.get()
    }

    /// The cut that shadow mode suppressed.
    pub(crate) fn shadow_cut(&self) -> Option<MemoryCut> {
        self.shadow_cut.get()
    }
}
