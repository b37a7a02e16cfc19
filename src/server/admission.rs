//! Admission of connections: whether the acceptor may accept the next one.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::pause::PauseCause;
use super::worker::open_connections;

/// Whether the next connection may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmissionDecision {
    /// Accept it.
    Accept,
    /// Leave it in the backlog and decide again after the pause.
    Pause(PauseCause),
}

/// Decides before each accept, on the acceptor's thread.
pub(crate) trait Admission: Send {
    fn admit(&self) -> AdmissionDecision;

    /// Whether a connection may use a descriptor of the reserve if no other is left.
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
        open_connections(&self.open)
    }
}
