//! Whether the next connection may be accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pause::PauseCause;

/// Whether the next connection may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmissionDecision {
    /// Accept it.
    Accept,
    /// Leave it in the backlog and ask again after the pause.
    Pause(PauseCause),
}

/// Asked before each accept, on the acceptor's thread.
pub(crate) trait Admission: Send {
    fn admit(&self) -> AdmissionDecision;

    /// Whether a connection may take a descriptor of the reserve where no other is left.
    fn uses_reserve(&self) -> bool {
        false
    }
}

/// At most `max` open connections on a listener.
pub(crate) struct ConnectionLimit {
    /// Open connections by worker thread.
    pub(crate) open: Vec<Arc<AtomicUsize>>,
    /// Connections on all worker threads together.
    pub(crate) max: usize,
}

impl ConnectionLimit {
    /// Open connections on all worker threads together.
    pub(crate) fn open(&self) -> usize {
        self.open.iter().map(|open| open.load(Ordering::Relaxed)).sum()
    }
}
