//! The two shared counters outside a mailbox.
//!
//! `BoundedCount` is a semaphore without a queue: mailbox slots and the process's in-flight slots. `Gate` is the live
//! count of one bucket's permits. It rises only in pool actors and falls in a ticket's `Drop`, on any thread. The
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
///
/// The actors of a bucket share its gate: the one that serves new requests, and those of replaced configurations. Each
/// has a `GateQueue`. The limit is that of the newest.
#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    /// The generation of the actor that set the limit, and the limit.
    limit: AtomicU64,
    live_peak: Peak,
    waiting_peak: Peak,
}

/// The queue of one actor before a gate.
#[derive(Debug)]
pub(crate) struct GateQueue {
    /// Its share of the gate's waiters.
    waiting: AtomicUsize,
    wake_sent: AtomicBool,
}

/// The second half of a word.
const HALF_SHIFT: u32 = 32;
const HALF_MASK: u64 = (1 << HALF_SHIFT) - 1;

fn lower_half(word: u64) -> usize {
    (word & HALF_MASK) as usize
}

fn upper_half(word: u64) -> usize {
    (word >> HALF_SHIFT) as usize
}

/// The waiters' half of the word is the upper one.
fn live_in(word: u64) -> usize {
    lower_half(word)
}

fn waiting_in(word: u64) -> usize {
    upper_half(word)
}

impl Gate {
    /// A gate without a limit.
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            limit: AtomicU64::new(HALF_MASK),
            live_peak: Peak::default(),
            waiting_peak: Peak::default(),
        }
    }

    /// Permits that exist now.
    pub(crate) fn live(&self) -> usize {
        live_in(self.word.load(Ordering::Acquire))
    }

    /// Waiters of all queues, as last published by their actors.
    pub(crate) fn waiting(&self) -> usize {
        waiting_in(self.word.load(Ordering::Acquire))
    }

    /// Permits that may exist now.
    pub(crate) fn limit(&self) -> usize {
        lower_half(self.limit.load(Ordering::Acquire))
    }

    /// The generation of the actor that set the limit.
    pub(crate) fn generation(&self) -> usize {
        upper_half(self.limit.load(Ordering::Acquire))
    }

    /// Sets the limit, unless an actor of a later generation has set it. Returns the limit that it replaced.
    pub(crate) fn set_limit(&self, generation: u32, limit: usize) -> Option<usize> {
        let next = u64::from(generation) << HALF_SHIFT | (limit as u64).min(HALF_MASK);
        let mut before = self.limit.load(Ordering::Acquire);
        loop {
            if upper_half(before) > generation as usize {
                return None;
            }
            match self.limit.compare_exchange(before, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(before) => return Some(lower_half(before)),
                Err(now) => before = now,
            }
        }
    }

    /// Counts a permit if fewer than `max` exist. The limit applies as well. Only actors call this, when they build a
    /// ticket.
    pub(crate) fn try_acquire_below(&self, max: usize) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let live = live_in(word);
            // Read again in each round: a lower limit holds at once.
            if live >= self.limit().min(max) {
                return false;
            }
            match self.word.compare_exchange(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.live_peak.record(live + 1);
                    return true;
                }
                Err(now) => word = now,
            }
        }
    }

    /// The most permits that existed since the last call.
    pub(crate) fn take_live_peak(&self) -> usize {
        self.live_peak.take().max(self.live())
    }

    /// The most waiters that were published since the last call.
    pub(crate) fn take_waiting_peak(&self) -> usize {
        self.waiting_peak.take().max(self.waiting())
    }

    /// Publishes the number of waiters in a queue and returns the live permits of the same instant: releases after it
    /// see the waiters. Only the actor of the queue calls this.
    pub(crate) fn publish_waiting(&self, queue: &GateQueue, waiting: usize) -> usize {
        // Before the word: a release that sees waiters in the word finds their queue.
        let before = queue.waiting.swap(waiting, Ordering::AcqRel);
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let all = (waiting_in(word) + waiting).saturating_sub(before);
            let next = (word & HALF_MASK) | (all as u64) << HALF_SHIFT;
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(word) => {
                    self.waiting_peak.record(all);
                    return live_in(word);
                }
                Err(now) => word = now,
            }
        }
    }

    /// Releases a permit. If true, a request waits: the caller must claim a wake-up of each queue with waiters.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        waiting_in(self.word.fetch_sub(1, Ordering::AcqRel)) > 0
    }

    /// Whether a request waits, for a caller that freed something other than a permit. The write of the unchanged word
    /// orders this call before or after the publication of waiters: either the actor sees what was freed, or this call
    /// sees the waiters.
    #[must_use]
    pub(crate) fn has_waiters_after_free(&self) -> bool {
        waiting_in(self.word.fetch_add(0, Ordering::AcqRel)) > 0
    }
}

impl GateQueue {
    pub(crate) fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), wake_sent: AtomicBool::new(false) }
    }

    /// Its waiters, as last published.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Whether the caller must send the actor a wake-up: none was sent since the actor received the last one.
    #[must_use]
    pub(crate) fn claim_wake(&self) -> bool {
        !self.wake_sent.swap(true, Ordering::AcqRel)
    }

    /// As `claim_wake`, if a request waits in this queue.
    #[must_use]
    pub(crate) fn claim_wake_if_waiting(&self) -> bool {
        self.waiting() > 0 && self.claim_wake()
    }

    /// The actor has received the wake-up. It calls this before it counts, so that a later release sends another one
    /// and an earlier release is counted.
    pub(crate) fn wake_received(&self) {
        self.wake_sent.swap(false, Ordering::AcqRel);
    }
}
