//! Calls of a bucket that have waited long for their response head. They show a frozen store before its timeouts do.
//!
//! A call is registered when its own timer fires, so calls with a response in time cost nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The late calls of one bucket.
#[derive(Debug, Default)]
pub(crate) struct LateCalls {
    starts: Mutex<Vec<Instant>>,
    total: AtomicU64,
}

/// The late calls in the status response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LateCallsSnapshot {
    /// Number of waiting calls.
    pub(crate) count: usize,
    /// Start of the longest wait.
    pub(crate) since: Instant,
}

/// One late call. Its drop removes it.
pub(crate) struct LateCall<'a> {
    calls: &'a LateCalls,
    began: Instant,
}

impl LateCalls {
    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a call that has waited since `began`.
    pub(crate) fn register(&self, began: Instant) -> LateCall<'_> {
        self.lock().push(began);
        self.total.fetch_add(1, Ordering::Relaxed);
        LateCall { calls: self, began }
    }

    /// The number of calls that have been late.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// None if no call is late.
    pub(crate) fn snapshot(&self) -> Option<LateCallsSnapshot> {
        let starts = self.lock();
        starts.iter().min().map(|since| LateCallsSnapshot { count: starts.len(), since: *since })
    }
}

impl Drop for LateCall<'_> {
    fn drop(&mut self) {
        let mut starts = self.calls.lock();
        if let Some(at) = starts.iter().position(|began| *began == self.began) {
            starts.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_actors::clock;

    use super::*;

    /// X10
    #[test]
    fn late_calls_show_their_number_and_the_longest_wait() {
        let (calls, t0) = (LateCalls::default(), clock::now());
        let later = t0 + Duration::from_secs(1);
        let (second, first) = (calls.register(later), calls.register(t0));
        assert_eq!(calls.snapshot(), Some(LateCallsSnapshot { count: 2, since: t0 }));
        drop(first);
        assert_eq!(calls.snapshot(), Some(LateCallsSnapshot { count: 1, since: later }));
        drop(second);
        assert_eq!((calls.snapshot(), calls.total()), (None, 2));
    }
}
