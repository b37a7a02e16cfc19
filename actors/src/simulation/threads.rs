//! Simulates worker threads on one thread: before a client is polled, its thread's state is swapped in, and afterwards
//! out.
//!
//! That state is the thread's permit cache; each thread has its own handle of the limiter and so its own leases. In the
//! product a task drops expired permits; here the scheduler does so after time has passed.

use std::time::Instant;

use crate::pool::permit_cache::{self, PermitCache};

struct WorkerThread {
    permit_cache: PermitCache,
    last_expiry: Instant,
}

/// All worker threads.
pub(super) struct WorkerThreads(Vec<WorkerThread>);

impl WorkerThreads {
    pub(super) fn new(count: usize, now: Instant) -> Self {
        Self(
            (0..count)
                .map(|_| WorkerThread { permit_cache: PermitCache::default(), last_expiry: now })
                .collect(),
        )
    }

    /// Runs work on a thread.
    pub(super) fn run_on<T>(&mut self, thread: usize, work: impl FnOnce() -> T) -> T {
        permit_cache::swap(&mut self.0[thread].permit_cache);
        let done = work();
        permit_cache::swap(&mut self.0[thread].permit_cache);
        done
    }

    /// Drops expired permits of the threads for which that is due.
    pub(super) fn drop_expired_permits(&mut self, now: Instant) {
        let is_due = |thread: &WorkerThread| {
            now.saturating_duration_since(thread.last_expiry) >= permit_cache::CACHE_TTL
        };
        for at in 0..self.0.len() {
            if is_due(&self.0[at]) {
                self.0[at].last_expiry = now;
                self.run_on(at, permit_cache::drop_expired);
            }
        }
    }
}
