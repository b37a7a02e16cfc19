//! The flow of the bytes of one transfer: running, paused or cut.

use std::time::Instant;

use crate::buffers::cut::{MemoryCut, TransferCut};
use crate::buffers::pause_policy::PauseState;

/// State of the flow of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FlowState {
    Running,
    Paused(Instant),
    /// It runs. Without the shadow mode of the action it would be paused.
    PausedInShadow(Instant),
    /// The pause is over; memory is still short.
    Resumed,
    Cut(MemoryCut),
}

/// What the reader of the body must do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TransferGate {
    /// Read on.
    Flowing,
    /// End the body: the transfer is cut.
    Cut(TransferCut),
}

impl FlowState {
    /// What the reader must do; none while it must wait.
    pub(super) fn gate(self) -> Option<TransferGate> {
        match self {
            Self::Running | Self::PausedInShadow(_) | Self::Resumed => Some(TransferGate::Flowing),
            Self::Cut(figures) => Some(TransferGate::Cut(TransferCut::Memory(figures))),
            Self::Paused(_) => None,
        }
    }

    /// Whether it is paused, or was paused in this episode; also in shadow mode.
    pub(super) fn was_paused(self) -> bool {
        match self {
            Self::Paused(_) | Self::PausedInShadow(_) | Self::Resumed => true,
            Self::Running | Self::Cut(_) => false,
        }
    }

    /// The state for the pause decision; none after a cut.
    pub(super) fn pause_state(self, now: Instant) -> Option<PauseState> {
        Some(match self {
            Self::Running => PauseState::Running,
            Self::Paused(since) | Self::PausedInShadow(since) => {
                PauseState::Paused(now.saturating_duration_since(since))
            }
            Self::Resumed => PauseState::Resumed,
            Self::Cut(_) => return None,
        })
    }
}
