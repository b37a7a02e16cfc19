//! The registry of client connections, and the choice of idle ones to close.
//!
//! A persistent connection without a request holds a descriptor and buffers. When descriptors or memory run short,
//! the connections that have been idle longest close, so that requests need not be refused (`idle_closer.rs`, and the
//! acceptor before it accepts one connection too many). HTTP/1.1 connections close; HTTP/2 connections get GOAWAY.
//!
//! A connection registers once, when it begins. Between requests it stores the time in its slot, which is one atomic
//! store. A connection that must close but has received a request serves it and closes after the response. A head
//! that arrives slowly counts as a request only from its last byte on.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

/// The time for which a connection counts as in use from its beginning, or from the first byte of an incomplete head.
/// A client that has connected is about to send its first request. It treats a connection that closes before the
/// response as a failure, whereas it repeats a request that met the end of a persistent connection.
const REQUEST_GRACE: Duration = Duration::from_secs(1);
/// The same on the admin listener, so that probes do not wait for strangers without a request.
const ADMIN_REQUEST_GRACE: Duration = Duration::from_millis(100);
/// A connection that has been idle for less is not closed: its next request may be on the way, and would meet the end
/// of the connection (RFC 9112, 9.3.1). It closes with its next response.
pub(crate) const IDLE_MIN: Duration = Duration::from_millis(100);
/// The value of a slot while a request is in progress.
const BUSY: u64 = u64::MAX;

/// The open connections of one listener, on all worker threads.
#[derive(Debug)]
pub(crate) struct IdleConnections {
    /// The zero of the times in the slots.
    epoch: Instant,
    /// The time for which a connection counts as in use before its first request.
    grace: Duration,
    slots: Mutex<Vec<Arc<ConnectionSlot>>>,
}

/// One connection.
#[derive(Debug)]
struct ConnectionSlot {
    /// The time at which it became idle, in microseconds since the epoch; may be in the future.
    idle_since: AtomicU64,
    /// Its index in the list of slots.
    index: AtomicUsize,
    is_closing: AtomicBool,
    /// Whether shadow mode has counted it.
    is_counted: AtomicBool,
    /// Whether the next response closes the connection.
    is_last_response: AtomicBool,
    waker: AtomicWaker,
}

/// Counts of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionCount {
    pub(crate) open: usize,
    /// Those without a request.
    pub(crate) idle: usize,
}

/// Idle connections that close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClosingCount {
    /// Those that were marked by this call.
    pub(crate) newly_closing: usize,
    /// Those that this call is the first to close, now or with their next response.
    pub(crate) newly_chosen: usize,
    /// All marked connections that are still open.
    pub(crate) all: usize,
}

impl IdleConnections {
    /// The connections of the data listener.
    pub(crate) fn data(now: Instant) -> Arc<Self> {
        Arc::new(Self { epoch: now, grace: REQUEST_GRACE, slots: Mutex::default() })
    }

    /// The connections of the admin listener.
    pub(crate) fn admin(now: Instant) -> Arc<Self> {
        Arc::new(Self { epoch: now, grace: ADMIN_REQUEST_GRACE, slots: Mutex::default() })
    }

    /// Registers a new connection. It counts as idle from the end of its grace on until its first request.
    pub(crate) fn register(self: &Arc<Self>, now: Instant) -> IdleSlot {
        let mut slots = self.slots();
        let slot = Arc::new(ConnectionSlot {
            idle_since: AtomicU64::new(self.micros(now + self.grace)),
            index: AtomicUsize::new(slots.len()),
            is_closing: AtomicBool::new(false),
            is_counted: AtomicBool::new(false),
            is_last_response: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        slots.push(Arc::clone(&slot));
        drop(slots);
        IdleSlot { connections: Arc::clone(self), slot, is_waker_set: false }
    }

    /// Closes the `count` connections that have been idle longest; connections that are closing already count.
    /// Connections that have been idle for less than `idle_min` stay open. If too few have been idle for long enough,
    /// others close with their next response.
    pub(crate) fn close_oldest(&self, count: usize, idle_min: Duration, now: Instant) -> ClosingCount {
        let latest = self.micros(now).saturating_sub(micros(idle_min));
        let slots = self.slots();
        let closing = slots.iter().filter(|slot| slot.is_closing() && slot.is_idle()).count();
        let needed = count.saturating_sub(closing);
        let mut idle: Vec<(u64, &Arc<ConnectionSlot>)> = slots
            .iter()
            .filter(|slot| !slot.is_closing())
            .map(|slot| (slot.idle_since.load(Ordering::Relaxed), slot))
            .filter(|(since, _)| *since <= latest)
            .collect();
        if (1..idle.len()).contains(&needed) {
            idle.select_nth_unstable_by_key(needed, |(since, _)| *since);
        }
        idle.truncate(needed);
        idle.iter().for_each(|(_, slot)| slot.close());
        let is_new = |slot: &ConnectionSlot| !slot.is_last_response.load(Ordering::Relaxed);
        let newly_idle = idle.iter().filter(|(_, slot)| is_new(slot)).count();
        let after_responses = ConnectionSlot::close_after_responses(&slots, needed - idle.len());
        ClosingCount {
            newly_closing: idle.len(),
            newly_chosen: newly_idle + after_responses,
            all: closing + idle.len(),
        }
    }

    /// The number of connections that `close_oldest` would close and that no earlier call has counted. All stay open.
    pub(crate) fn count_oldest(&self, count: usize, idle_min: Duration, now: Instant) -> usize {
        let latest = self.micros(now).saturating_sub(micros(idle_min));
        let slots = self.slots();
        let is_due = |slot: &&Arc<ConnectionSlot>| slot.idle_since.load(Ordering::Relaxed) <= latest;
        let uncounted = slots.iter().filter(is_due).filter(|slot| !slot.is_counted.load(Ordering::Relaxed));
        let counted = uncounted.take(count).inspect(|slot| slot.is_counted.store(true, Ordering::Relaxed));
        counted.count()
    }

    /// The number of open and of idle connections.
    pub(crate) fn count(&self) -> ConnectionCount {
        let slots = self.slots();
        let idle = slots.iter().filter(|slot| slot.is_idle()).count();
        ConnectionCount { open: slots.len(), idle }
    }

    fn remove(&self, slot: &ConnectionSlot) {
        let mut slots = self.slots();
        let index = slot.index.load(Ordering::Relaxed);
        slots.swap_remove(index);
        if let Some(moved) = slots.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.epoch))
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<ConnectionSlot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(BUSY - 1)
}

impl ConnectionSlot {
    fn is_idle(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) != BUSY
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Makes this number of open connections close with their next response; those already marked count. Returns the number of the others.
    fn close_after_responses(slots: &[Arc<Self>], count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let open = || slots.iter().filter(|slot| !slot.is_closing());
        let due = open().filter(|slot| slot.is_last_response.load(Ordering::Relaxed)).count();
        let others = open().filter(|slot| !slot.is_last_response.load(Ordering::Relaxed));
        let marked = others.take(count.saturating_sub(due));
        marked.inspect(|slot| slot.is_last_response.store(true, Ordering::Relaxed)).count()
    }

    fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A connection's entry in the registry. Dropping it removes the connection.
#[derive(Debug)]
pub(crate) struct IdleSlot {
    connections: Arc<IdleConnections>,
    slot: Arc<ConnectionSlot>,
    is_waker_set: bool,
}

impl IdleSlot {
    /// The time for which an incomplete head counts as a request.
    pub(crate) fn grace(&self) -> Duration {
        self.connections.grace
    }

    /// Marks the start of a request.
    pub(crate) fn set_busy(&self) {
        self.slot.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// Marks the end of a request at `since`, which may be in the future.
    pub(crate) fn set_idle(&self, since: Instant) {
        self.slot.idle_since.store(self.connections.micros(since), Ordering::Relaxed);
    }

    /// Whether the connection must close as soon as it has no request.
    fn is_closing(&self) -> bool {
        self.slot.is_closing()
    }

    /// Whether the response to this request closes the connection.
    pub(crate) fn is_last_response(&self) -> bool {
        self.slot.is_last_response.load(Ordering::Relaxed) || self.is_closing()
    }

    /// Like `is_closing`, and wakes the connection's task when it changes. The task must always be the same.
    pub(crate) fn poll_closing(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.is_waker_set {
            self.is_waker_set = true;
            self.slot.waker.register(cx.waker());
        }
        self.is_closing()
    }

    /// Returns when the connection must close.
    pub(crate) async fn closing(&mut self) {
        poll_fn(|cx| if self.poll_closing(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl Drop for IdleSlot {
    fn drop(&mut self) {
        self.connections.remove(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    fn closing(slots: &[IdleSlot]) -> Vec<usize> {
        slots.iter().enumerate().filter(|(_, slot)| slot.is_closing()).map(|(at, _)| at).collect()
    }

    /// X8: the connections that have been idle longest close first, whatever their age, and one with a request never
    /// closes
    #[test]
    fn the_longest_idle_close_first() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let connections = IdleConnections::data(start);
        let slots: Vec<IdleSlot> = (0..6).map(|second| connections.register(at(second))).collect();
        slots.iter().zip(0..).for_each(|(slot, second)| slot.set_idle(at(second)));
        slots[0].set_busy();
        slots[1].set_busy();
        slots[1].set_idle(at(9));
        assert_eq!(connections.count(), ConnectionCount { open: 6, idle: 5 });
        let close =
            |count, idle_min, now| connections.close_oldest(count, Duration::from_secs(idle_min), now);
        assert_eq!(close(2, 0, at(10)), ClosingCount { newly_closing: 2, newly_chosen: 2, all: 2 });
        assert_eq!(closing(&slots), [2, 3]);
        assert_eq!(
            close(3, 0, at(10)),
            ClosingCount { newly_closing: 1, newly_chosen: 1, all: 3 },
            "those that close already count"
        );
        assert_eq!(closing(&slots), [2, 3, 4]);
        assert_eq!(close(99, 5, at(10)).newly_closing, 1);
        assert_eq!(closing(&slots), [2, 3, 4, 5], "the second has been idle for a second only");
        assert_eq!(close(99, 0, at(10)).newly_closing, 1);
        assert_eq!(closing(&slots), [1, 2, 3, 4, 5]);
        assert_eq!(close(99, 0, at(10)), ClosingCount { newly_closing: 0, newly_chosen: 0, all: 5 });
        slots[1].set_busy();
        assert_eq!(
            close(5, 0, at(10)),
            ClosingCount { newly_closing: 0, newly_chosen: 0, all: 4 },
            "one goes on to serve its request"
        );
    }

    /// X3: a connection without a request gives way to another after 100 ms of grace on the admin listener, 1 s on the data listener
    #[test]
    fn strangers_give_way_sooner_on_the_admin_listener() {
        let start = clock::now();
        for (connections, grace_ms) in
            [(IdleConnections::admin(start), 100), (IdleConnections::data(start), 1000)]
        {
            let slot = connections.register(start);
            assert_eq!(slot.grace(), Duration::from_millis(grace_ms));
            let closing = |millis| {
                connections.close_oldest(1, Duration::ZERO, start + Duration::from_millis(millis)).all
            };
            assert_eq!((closing(grace_ms - 1), closing(grace_ms)), (0, 1));
        }
    }

    /// X8: the removal of one connection leaves the entries of the others valid
    #[test]
    fn connections_are_removed_in_any_order() {
        let start = clock::now();
        let connections = IdleConnections::data(start);
        let mut slots: Vec<IdleSlot> = (0..5).map(|_| connections.register(start)).collect();
        assert_eq!(
            connections.close_oldest(5, Duration::ZERO, start).newly_closing,
            0,
            "their first requests are due"
        );
        slots.iter().for_each(|slot| slot.set_idle(start));
        drop(slots.remove(1));
        drop(slots.remove(3));
        slots[0].set_busy();
        assert_eq!(connections.count(), ConnectionCount { open: 3, idle: 2 });
        drop(slots.remove(0));
        assert_eq!(connections.close_oldest(2, IDLE_MIN, start + IDLE_MIN).newly_closing, 2);
        assert_eq!(closing(&slots), [0, 1]);
        drop(slots);
        assert_eq!(connections.count(), ConnectionCount { open: 0, idle: 0 });
    }

    /// X8: a recently used connection is not closed while its next request may be on the way: its next response
    /// closes it
    #[test]
    fn connections_in_use_close_with_their_next_response() {
        let start = clock::now();
        let connections = IdleConnections::data(start);
        let slots: Vec<IdleSlot> = (0..4).map(|_| connections.register(start)).collect();
        slots[0].set_busy();
        slots[1].set_idle(start);
        slots[2].set_idle(start);
        slots[3].set_idle(start + IDLE_MIN);
        let now = start + IDLE_MIN;
        let last = || slots.iter().map(IdleSlot::is_last_response).collect::<Vec<_>>();
        let close = |count| connections.close_oldest(count, IDLE_MIN, now);
        assert_eq!(close(3), ClosingCount { newly_closing: 2, newly_chosen: 3, all: 2 });
        assert_eq!(closing(&slots), [1, 2]);
        assert_eq!(last(), [true, true, true, false], "one more with its response");
        assert_eq!(close(3).newly_chosen, 0);
        assert_eq!(last(), [true, true, true, false], "it is marked already");
        assert_eq!(close(4).newly_chosen, 1);
        assert_eq!(last(), [true; 4]);
        assert_eq!(closing(&slots), [1, 2]);
        slots[0].set_idle(start);
        assert_eq!(
            close(4),
            ClosingCount { newly_closing: 1, newly_chosen: 0, all: 3 },
            "it counted when it was marked"
        );
    }

    /// X11: shadow mode counts each connection once and closes none
    #[test]
    fn idle_connections_are_counted_once() {
        let start = clock::now();
        let connections = IdleConnections::data(start);
        let slots: Vec<IdleSlot> = (0..4).map(|_| connections.register(start)).collect();
        slots[..3].iter().for_each(|slot| slot.set_idle(start));
        let later = start + IDLE_MIN;
        let counts = [2, 2, 2].map(|count| connections.count_oldest(count, IDLE_MIN, later));
        assert_eq!(counts, [2, 1, 0], "the fourth waits for its first request");
        assert_eq!(closing(&slots), Vec::<usize>::new());
        assert!(slots.iter().all(|slot| !slot.is_last_response()));
    }

    /// X8: the connection's task is woken
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_woken_to_close() {
        let connections = IdleConnections::data(clock::now());
        let mut slot = connections.register(clock::now());
        slot.set_idle(clock::now());
        let waiting = tokio::spawn(async move { slot.closing().await });
        tokio::task::yield_now().await;
        assert_eq!(connections.close_oldest(1, Duration::ZERO, clock::now()).newly_closing, 1);
        tokio::time::timeout(Duration::from_secs(1), waiting).await.unwrap().unwrap();
    }
}
