//! The two shared counters that live outside a mailbox, and the proof obligations that come with it.
//!
//! `Bounded` is a semaphore without a queue: mailbox seats and the process's in-flight slots. `Gate` is the
//! live count of one bucket's permits: it rises only in the pool actor and falls in a ticket's `Drop`, on any
//! thread. The hazard is the lost wake-up: the actor finds the gate full and queues a waiter just as the last
//! ticket is dropped. Live permits and waiters therefore share one word, so that each side sees the other in the very
//! operation by which it changes its own half. `tests/loom.rs` checks that over all interleavings.

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A count that never exceeds its capacity.
#[derive(Debug)]
pub(crate) struct BoundedCount {
    acquired: AtomicUsize,
    capacity: usize,
}

impl BoundedCount {
    /// An empty count of at most `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { acquired: AtomicUsize::new(0), capacity }
    }

    /// Takes one, or says no at once.
    pub(crate) fn try_acquire(&self) -> bool {
        self.try_acquire_below(self.capacity)
    }

    /// Takes one if fewer than `limit` are taken. The capacity holds besides.
    pub(crate) fn try_acquire_below(&self, limit: usize) -> bool {
        let taken = self.acquired.fetch_add(1, Ordering::AcqRel);
        if taken < self.capacity.min(limit) {
            return true;
        }
        self.acquired.fetch_sub(1, Ordering::AcqRel);
        false
    }

    /// Gives one back.
    pub(crate) fn release(&self) {
        self.acquired.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many are taken; may overshoot by the number of takers being refused right now.
    pub(crate) fn in_use(&self) -> usize {
        self.acquired.load(Ordering::Acquire).min(self.capacity)
    }

    /// The bound.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

/// The live permits of one gate, and how many wait for the next, in one word: who changes one sees the other.
#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    wake_sent: AtomicBool,
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
        Self { word: AtomicU64::new(0), wake_sent: AtomicBool::new(false) }
    }

    /// Permits that exist now.
    pub(crate) fn live(&self) -> usize {
        live_in(self.word.load(Ordering::Acquire))
    }

    /// Waiters as last published by the actor.
    pub(crate) fn waiting(&self) -> usize {
        waiting_in(self.word.load(Ordering::Acquire))
    }

    /// Only the actor calls this, as it builds a ticket.
    pub(crate) fn acquire(&self) {
        self.word.fetch_add(1, Ordering::AcqRel);
    }

    /// Only the actor calls this. Returns the live permits at that very moment: those that fall later see the waiters.
    pub(crate) fn publish_waiting(&self, waiting: usize) -> usize {
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

    /// A ticket ends. True: the caller must nudge the actor, because somebody waits and nobody has nudged yet.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        let word = self.word.fetch_sub(1, Ordering::AcqRel);
        waiting_in(word) > 0 && self.claim_wake()
    }

    /// Whether it is the caller's to nudge the actor: nobody has done so since it last received one.
    #[must_use]
    pub(crate) fn claim_wake(&self) -> bool {
        !self.wake_sent.swap(true, Ordering::AcqRel)
    }

    /// Something besides a ticket fell free, and whoever waits may need it. Writing the word, if only what is there, puts this
    /// before or after the publication of waiters: the actor sees what fell, or this sees who waits.
    #[must_use]
    pub(crate) fn claim_wake_if_waiting(&self) -> bool {
        let word = self.word.fetch_add(0, Ordering::AcqRel);
        waiting_in(word) > 0 && !self.wake_sent.swap(true, Ordering::AcqRel)
    }

    /// The actor has received the nudge; it calls this before it counts, so that a later fall nudges again and an
    /// earlier one is counted.
    pub(crate) fn wake_received(&self) {
        self.wake_sent.swap(false, Ordering::AcqRel);
    }
}
