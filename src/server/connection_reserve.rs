//! The kinds of connections of the admin listener (X3): ordinary ones, a reserve for probes and `/status`, and event streams.
//!
//! The path of a request is known only after its head, so the acceptor accepts [`RESERVED`] connections more than the
//! maximum. A connection without a ticket is one of them. Ordinary connections that never end cannot fill the reserve,
//! because each connection of it is short (`listener/admin.rs`). A connection that becomes an event stream gives its ticket back
//! and counts as a stream until it ends, so that streams leave all ordinary connections to others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The connections beyond the maximum.
pub(crate) const RESERVED: usize = 4;

/// The counts of ordinary connections and of event streams, and their maxima.
#[derive(Debug)]
pub(crate) struct ConnectionReserve {
    ordinary: AtomicUsize,
    ordinary_max: AtomicUsize,
    /// The most ordinary connections since the peak was last read.
    ordinary_peak: AtomicUsize,
    /// Connections beyond the maximum, since the start.
    refused_ordinary: AtomicU64,
    streams: AtomicUsize,
    streams_max: AtomicUsize,
    /// The most event streams since the peak was last read.
    streams_peak: AtomicUsize,
    /// Event streams beyond their maximum, since the start.
    refused_streams: AtomicU64,
}

impl ConnectionReserve {
    pub(crate) fn new(ordinary_max: usize, streams_max: usize) -> Arc<Self> {
        Arc::new(Self {
            ordinary: AtomicUsize::new(0),
            ordinary_max: AtomicUsize::new(ordinary_max),
            ordinary_peak: AtomicUsize::new(0),
            refused_ordinary: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            streams_max: AtomicUsize::new(streams_max),
            streams_peak: AtomicUsize::new(0),
            refused_streams: AtomicU64::new(0),
        })
    }

    /// Sets the maxima, which follow the limit of descriptors.
    pub(crate) fn set_max(&self, ordinary_max: usize, streams_max: usize) {
        self.ordinary_max.store(ordinary_max, Ordering::Relaxed);
        self.streams_max.store(streams_max, Ordering::Relaxed);
    }

    /// The connections that are event streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// The maximum of event streams.
    pub(crate) fn streams_max(&self) -> usize {
        self.streams_max.load(Ordering::Relaxed)
    }

    /// The most ordinary connections since the last call.
    pub(crate) fn take_ordinary_peak(&self) -> usize {
        self.ordinary_peak.swap(0, Ordering::Relaxed).max(self.ordinary.load(Ordering::Relaxed))
    }

    /// Connections beyond the maximum, since the start.
    pub(crate) fn refused_ordinary(&self) -> u64 {
        self.refused_ordinary.load(Ordering::Relaxed)
    }

    /// The most event streams since the last call.
    pub(crate) fn take_streams_peak(&self) -> usize {
        self.streams_peak.swap(0, Ordering::Relaxed).max(self.streams())
    }

    /// Event streams beyond their maximum, since the start.
    pub(crate) fn refused_streams(&self) -> u64 {
        self.refused_streams.load(Ordering::Relaxed)
    }

    /// The ticket of an ordinary connection; `None` for a connection of the reserve. Called on one thread.
    fn acquire_ordinary(self: &Arc<Self>) -> Option<OrdinaryConnection> {
        let max = self.ordinary_max.load(Ordering::Relaxed);
        let open = self.ordinary.fetch_add(1, Ordering::Relaxed);
        if open < max {
            self.ordinary_peak.fetch_max(open + 1, Ordering::Relaxed);
            return Some(OrdinaryConnection(Arc::clone(self)));
        }
        self.ordinary.fetch_sub(1, Ordering::Relaxed);
        self.refused_ordinary.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// The ticket of an event stream; `None` if the maximum is open.
    fn acquire_stream(self: &Arc<Self>) -> Option<StreamConnection> {
        let open = self.streams.fetch_add(1, Ordering::Relaxed);
        if open < self.streams_max() {
            self.streams_peak.fetch_max(open + 1, Ordering::Relaxed);
            return Some(StreamConnection(Arc::clone(self)));
        }
        self.streams.fetch_sub(1, Ordering::Relaxed);
        self.refused_streams.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// The ticket of an ordinary connection.
#[derive(Debug)]
struct OrdinaryConnection(Arc<ConnectionReserve>);

impl Drop for OrdinaryConnection {
    fn drop(&mut self) {
        self.0.ordinary.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The ticket of an event stream.
#[derive(Debug)]
struct StreamConnection(Arc<ConnectionReserve>);

impl Drop for StreamConnection {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection counts as.
#[derive(Debug)]
enum ConnectionKind {
    Ordinary { _ticket: OrdinaryConnection },
    Reserve,
    Stream { _ticket: StreamConnection },
}

/// The ticket of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionTicket {
    reserve: Arc<ConnectionReserve>,
    kind: RefCell<ConnectionKind>,
}

impl ConnectionTicket {
    pub(crate) fn acquire(reserve: &Arc<ConnectionReserve>) -> Rc<Self> {
        let kind = match reserve.acquire_ordinary() {
            Some(ticket) => ConnectionKind::Ordinary { _ticket: ticket },
            None => ConnectionKind::Reserve,
        };
        Rc::new(Self { reserve: Arc::clone(reserve), kind: RefCell::new(kind) })
    }

    pub(crate) fn is_reserve(&self) -> bool {
        matches!(*self.kind.borrow(), ConnectionKind::Reserve)
    }

    /// Makes the connection an event stream until it ends. The error is the maximum of streams, which are open.
    pub(crate) fn become_stream(&self) -> Result<(), usize> {
        let ticket = self.reserve.acquire_stream().ok_or_else(|| self.reserve.streams_max())?;
        self.kind.replace(ConnectionKind::Stream { _ticket: ticket });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X3: connections beyond the maximum are of the reserve, and a dropped ticket is free for the next one
    #[test]
    fn connections_beyond_the_maximum_are_of_the_reserve() {
        let reserve = ConnectionReserve::new(2, 0);
        let is_reserve = || ConnectionTicket::acquire(&reserve).is_reserve();
        let (first, second) = (ConnectionTicket::acquire(&reserve), ConnectionTicket::acquire(&reserve));
        assert!(!first.is_reserve() && !second.is_reserve());
        assert!(is_reserve() && is_reserve());
        drop(first);
        let third = ConnectionTicket::acquire(&reserve);
        assert!(!third.is_reserve() && is_reserve());
        reserve.set_max(1, 0);
        drop(third);
        assert!(is_reserve(), "one is open, and the maximum is lower now");
    }

    /// X3, X7: a stream gives its place among the ordinary connections back, and streams have a maximum of their own
    #[test]
    fn a_stream_is_no_ordinary_connection() {
        let reserve = ConnectionReserve::new(1, 2);
        let first = ConnectionTicket::acquire(&reserve);
        assert_eq!(first.become_stream(), Ok(()));
        let second = ConnectionTicket::acquire(&reserve);
        assert!(!second.is_reserve(), "the place of the stream is free");
        let third = ConnectionTicket::acquire(&reserve);
        assert!(third.is_reserve());
        assert_eq!((third.become_stream(), third.is_reserve(), reserve.streams()), (Ok(()), false, 2));
        assert_eq!(second.become_stream(), Err(2));
        assert_eq!((reserve.refused_streams(), reserve.take_streams_peak()), (1, 2));
        assert!(ConnectionTicket::acquire(&reserve).is_reserve(), "the second kept its place");
        drop(first);
        assert_eq!((second.become_stream(), reserve.streams()), (Ok(()), 2));
        drop((second, third));
        assert_eq!((reserve.streams(), reserve.take_streams_peak(), reserve.take_streams_peak()), (0, 2, 0));
    }
}
