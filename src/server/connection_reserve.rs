//! The reserve of the admin listener (X3): connections beyond its maximum that serve only probes and `/status`.
//!
//! The path of a request is known only after its head, so the acceptor accepts [`RESERVED`] connections more than the
//! maximum. A connection without a ticket is one of them. Ordinary connections that never end cannot fill the reserve,
//! because each connection of it is short (`listener/admin.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections beyond the maximum.
pub(crate) const RESERVED: usize = 4;

/// The count of ordinary connections, and their maximum.
#[derive(Debug)]
pub(crate) struct ConnectionReserve {
    ordinary: AtomicUsize,
    ordinary_max: AtomicUsize,
}

impl ConnectionReserve {
    pub(crate) fn new(ordinary_max: usize) -> Arc<Self> {
        Arc::new(Self { ordinary: AtomicUsize::new(0), ordinary_max: AtomicUsize::new(ordinary_max) })
    }

    /// Sets the maximum of ordinary connections, which follows the limit of descriptors.
    pub(crate) fn set_max(&self, ordinary_max: usize) {
        self.ordinary_max.store(ordinary_max, Ordering::Relaxed);
    }

    /// The ticket of an ordinary connection; `None` for a connection of the reserve. Called on one thread.
    pub(crate) fn acquire(self: &Arc<Self>) -> Option<OrdinaryConnection> {
        let max = self.ordinary_max.load(Ordering::Relaxed);
        if self.ordinary.fetch_add(1, Ordering::Relaxed) < max {
            return Some(OrdinaryConnection(Arc::clone(self)));
        }
        self.ordinary.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

/// The ticket of an ordinary connection.
#[derive(Debug)]
pub(crate) struct OrdinaryConnection(Arc<ConnectionReserve>);

impl Drop for OrdinaryConnection {
    fn drop(&mut self) {
        self.0.ordinary.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X3: connections beyond the maximum have no ticket, and a dropped ticket is free for the next one
    #[test]
    fn connections_beyond_the_maximum_are_of_the_reserve() {
        let reserve = ConnectionReserve::new(2);
        let (first, second) = (reserve.acquire(), reserve.acquire());
        assert!(first.is_some() && second.is_some());
        assert!(reserve.acquire().is_none() && reserve.acquire().is_none());
        drop(first);
        let third = reserve.acquire();
        assert!(third.is_some() && reserve.acquire().is_none());
        reserve.set_max(1);
        drop(third);
        assert!(reserve.acquire().is_none(), "one is open, and the maximum is lower now");
    }
}
