//! The two shared counters outside a mailbox.
//!
//! `BoundedCount` is a semaphore without a queue: mailbox slots and the process's in-flight slots. `Gate` is the live
//! count of one bucket's permits. It rises only in the pool actor and falls in a ticket's `Drop`, on any thread. The
//! hazard is the lost wake-up: the actor finds the gate full and queues a waiter just as the last ticket is dropped.
//! So live permits and waiters share one word: the operation that changes one half reads the other.
//! `actors/tests/loom.rs` checks this over all interleavings.

use std::sync::atomic::AtomicUsize as PlainUsize;

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The highest value since it was last read. No decision reads it, so loom's atomics are not needed.
#[derive(Debug, Default)]
pub(crate) struct Peak(PlainUsize);

impl Peak {
    pub(crate) fn record(&self, value: usize) {
        // A load is cheaper than a read-modify-write, and most values are below the peak.
        if value > self.0.load(Ordering::Relaxed) {
            self.0.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// The peak, which starts again.
    pub(crate) fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// A count that never exceeds its capacity. If the capacity is lowered, what was acquired before stays counted.
#[derive(Debug)]
pub(crate) struct BoundedCount {
    acquired: AtomicUsize,
    capacity: PlainUsize,
    /// The highest capacity until now.
    highest: PlainUsize,
}

impl BoundedCount {
    /// An empty count of at most `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        let (capacity, highest) = (PlainUsize::new(capacity), PlainUsize::new(capacity));
        Self { acquired: AtomicUsize::new(0), capacity, highest }
    }

    /// Sets the capacity, which holds at once.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.highest.fetch_max(capacity, Ordering::Relaxed);
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// Acquires one; false if all are in use.
    pub(crate) fn try_acquire(&self) -> bool {
        self.try_acquire_below(usize::MAX)
    }

    /// Acquires one if fewer than `limit` are in use. The capacity applies as well.
    pub(crate) fn try_acquire_below(&self, limit: usize) -> bool {
        let in_use = self.acquired.fetch_add(1, Ordering::AcqRel);
        if in_use < self.capacity().min(limit) {
            return true;
        }
        self.acquired.fetch_sub(1, Ordering::AcqRel);
        false
    }

    /// Releases one.
    pub(crate) fn release(&self) {
        self.acquired.fetch_sub(1, Ordering::AcqRel);
    }

    /// Number in use. May be too high by the number of callers that are being refused at this moment.
    pub(crate) fn in_use(&self) -> usize {
        self.acquired.load(Ordering::Acquire).min(self.highest.load(Ordering::Relaxed))
    }

    /// The bound.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }
}

/// The live permits and the waiters of one gate in one word: a change of one half reads the other.
#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    wake_sent: AtomicBool,
    live_peak: Peak,
    waiting_peak: Peak,
}

/// The waiters' half of the word.
const WAITING_SHIFT: u32 = 32;
const LIVE_MASK: u64 = (1 << WAITING_SHIFT) - 1;

fn live_in(word: u64) -> usize {
    (word & LIVE_MASK) as usize
}

fn waiting_in(word: u64) -> usize {
    (word >> WAITING_SHIFT) as usize
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            wake_sent: AtomicBool::new(false),
            live_peak: Peak::default(),
            waiting_peak: Peak::default(),
        }
    }

    /// Permits that exist now.
    pub(crate) fn live(&self) -> usize {
        live_in(self.word.load(Ordering::Acquire))
    }

    /// Waiters, as last published by the actor.
    pub(crate) fn waiting(&self) -> usize {
        waiting_in(self.word.load(Ordering::Acquire))
    }

    /// Counts a permit. Only the actor calls this, when it builds a ticket.
    pub(crate) fn acquire(&self) {
        let word = self.word.fetch_add(1, Ordering::AcqRel);
        self.live_peak.record(live_in(word) + 1);
    }

    /// The most permits that existed since the last call.
    pub(crate) fn take_live_peak(&self) -> usize {
        self.live_peak.take().max(self.live())
    }

    /// The most waiters that were published since the last call.
    pub(crate) fn take_waiting_peak(&self) -> usize {
        self.waiting_peak.take().max(self.waiting())
    }

    /// Publishes the number of waiters and returns the live permits of the same instant: releases after it see the
    /// waiters. Only the actor calls this.
    pub(crate) fn publish_waiting(&self, waiting: usize) -> usize {
        self.waiting_peak.record(waiting);
        let waiting = (waiting as u64) << WAITING_SHIFT;
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let next = (word & LIVE_MASK) | waiting;
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(word) => return live_in(word),
                Err(now) => word = now,
            }
        }
    }

    /// Releases a permit. If true, the caller must send the actor a wake-up: a request waits, and no wake-up is
    /// pending.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        let word = self.word.fetch_sub(1, Ordering::AcqRel);
        waiting_in(word) > 0 && self.claim_wake()
    }

    /// Whether the caller must send the actor a wake-up: none was sent since the actor received the last one.
    #[must_use]
    pub(crate) fn claim_wake(&self) -> bool {
        !self.wake_sent.swap(true, Ordering::AcqRel)
    }

    /// Whether the caller must send a wake-up after it freed something other than a permit. The write of the
    /// unchanged word orders this call before or after the publication of waiters: either the actor sees what was
    /// freed, or this call sees the waiters.
    #[must_use]
    pub(crate) fn claim_wake_if_waiting(&self) -> bool {
        let word = self.word.fetch_add(0, Ordering::AcqRel);
        waiting_in(word) > 0 && self.claim_wake()
    }

    /// The actor has received the wake-up. It calls this before it counts, so that a later release sends another one
    /// and an earlier release is counted.
    pub(crate) fn wake_received(&self) {
        self.wake_sent.swap(false, Ordering::AcqRel);
    }
}
