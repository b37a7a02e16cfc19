//! Calls of a bucket that timed out without a response head, for each endpoint. They show a frozen store between two calls, while no
//! call is late (`late_calls.rs`) and no rule has ejected the endpoint or opened the circuit yet.
//!
//! An answered call costs one atomic load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A timeout is remembered for as long as its call took, within these bounds. It is longer than the usual pause before the next call.
const KEPT_MIN: Duration = Duration::from_secs(10);
const KEPT_MAX: Duration = Duration::from_secs(30);

/// Calls of one endpoint that timed out in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnansweredSnapshot {
    /// The timeouts without a response head between them.
    pub(crate) count: u32,
    /// The start of the first of these calls.
    pub(crate) since: Instant,
    /// When the last timeout is forgotten without a further call.
    pub(crate) until: Instant,
}

#[derive(Debug, Default)]
struct UnansweredEndpoint {
    has_timeouts: AtomicBool,
    timeouts: Mutex<Option<UnansweredSnapshot>>,
}

/// The unanswered calls of one bucket.
#[derive(Debug)]
pub(crate) struct UnansweredCalls(Box<[UnansweredEndpoint]>);

impl UnansweredEndpoint {
    fn lock(&self) -> MutexGuard<'_, Option<UnansweredSnapshot>> {
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnansweredCalls {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self((0..endpoints).map(|_| UnansweredEndpoint::default()).collect())
    }

    /// A call that began at `began` timed out without a response head.
    pub(crate) fn record_timeout(&self, endpoint: usize, began: Instant, now: Instant) {
        let Some(of_endpoint) = self.0.get(endpoint) else { return };
        let until = now + now.saturating_duration_since(began).clamp(KEPT_MIN, KEPT_MAX);
        let mut timeouts = of_endpoint.lock();
        let before = timeouts.filter(|before| now < before.until);
        *timeouts = Some(match before {
            None => UnansweredSnapshot { count: 1, since: began, until },
            Some(before) => UnansweredSnapshot {
                count: before.count.saturating_add(1),
                since: before.since.min(began),
                until: before.until.max(until),
            },
        });
        of_endpoint.has_timeouts.store(true, Ordering::Release);
    }

    /// A call got a response head.
    pub(crate) fn record_answer(&self, endpoint: usize) {
        let Some(of_endpoint) = self.0.get(endpoint) else { return };
        if of_endpoint.has_timeouts.load(Ordering::Acquire) {
            let mut timeouts = of_endpoint.lock();
            *timeouts = None;
            of_endpoint.has_timeouts.store(false, Ordering::Release);
        }
    }

    /// The timeouts of each endpoint; none where the last call was answered.
    pub(crate) fn snapshots(&self, now: Instant) -> Vec<Option<UnansweredSnapshot>> {
        self.0.iter().map(|endpoint| endpoint.lock().filter(|timeouts| now < timeouts.until)).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// X10: timeouts of an endpoint add up until one of its calls is answered, or until the last is old
    #[test]
    fn timeouts_add_up_until_an_answer() {
        let (calls, t0) = (UnansweredCalls::new(2), clock::now());
        let at = |seconds| t0 + Duration::from_secs(seconds);
        calls.record_timeout(0, at(0), at(2));
        calls.record_timeout(0, at(3), at(5));
        calls.record_answer(1);
        let of_two = UnansweredSnapshot { count: 2, since: at(0), until: at(15) };
        assert_eq!(calls.snapshots(at(14)), [Some(of_two), None]);
        assert_eq!(calls.snapshots(at(15)), [None, None], "as long as the call took, but at least 10 s");
        calls.record_timeout(0, at(16), at(36));
        let again = UnansweredSnapshot { count: 1, since: at(16), until: at(56) };
        assert_eq!(calls.snapshots(at(40)), [Some(again), None], "older ones are forgotten");
        calls.record_timeout(1, at(0), at(600));
        assert_eq!(calls.snapshots(at(600))[1].map(|of| of.until), Some(at(630)), "at most 30 s");
        calls.record_answer(0);
        calls.record_answer(1);
        assert_eq!(calls.snapshots(at(40)), [None, None]);
    }
}
