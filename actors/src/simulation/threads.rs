//! Worker threads, played by one: what a thread keeps to itself is put in its place before one of its clients is looked after, and
//! away afterwards.
//!
//! That is its stash of permits; its leases are told apart by its own handle of the limiter. A thread clears out its stash by
//! a task, which here is called when time has passed.

use std::time::Instant;

use crate::pool::stash::{self, Stash};

struct Thread {
    stash: Stash,
    cleared: Instant,
}

/// All worker threads.
pub(super) struct Threads(Vec<Thread>);

impl Threads {
    pub(super) fn new(count: usize, now: Instant) -> Self {
        Self((0..count).map(|_| Thread { stash: Stash::default(), cleared: now }).collect())
    }

    /// Does something on a thread.
    pub(super) fn on<T>(&mut self, thread: usize, work: impl FnOnce() -> T) -> T {
        stash::exchange(&mut self.0[thread].stash);
        let done = work();
        stash::exchange(&mut self.0[thread].stash);
        done
    }

    /// Has each thread clear out that has not done so for a while.
    pub(super) fn clear_out(&mut self, now: Instant) {
        let is_due = |thread: &Thread| now.saturating_duration_since(thread.cleared) >= stash::GOOD_FOR;
        for at in 0..self.0.len() {
            if is_due(&self.0[at]) {
                self.0[at].cleared = now;
                self.on(at, stash::clear_out);
            }
        }
    }
}
