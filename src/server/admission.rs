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

/// Decides before each accept.
pub(crate) trait Admission: Send + Sync {
    /// Decides on the acceptor thread. It may take a few milliseconds to make room.
    fn admit(&self) -> AdmissionDecision;

    /// Whether at least this many connections more would be admitted at once, so that worker threads may accept them. Called on any thread.
    fn has_room(&self, connections: usize) -> bool {
        let _ = connections;
        false
    }

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
