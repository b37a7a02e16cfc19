//! Measured waits: the mean over 100 ms or 2,000 requests, whichever window ends first (as in DAGOR, WeChat's overload
//! control), and its publication.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

/// A window ends after this time, or after this number of requests.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_REQUESTS: u64 = 2_000;
/// A published wait that is older is unknown.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(1);

/// All waits since the start: their sum and number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct WaitTotals {
    pub(crate) sum: Duration,
    pub(crate) count: u64,
}

/// The windows of one kind of wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitWindow {
    began: Instant,
    before: WaitTotals,
    mean: Option<Duration>,
}

impl WaitWindow {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, before: WaitTotals::default(), mean: None }
    }

    /// Begins a window, without the waits before it.
    pub(crate) fn restart(&mut self, totals: WaitTotals, now: Instant) {
        *self = Self { before: totals, ..Self::new(now) };
    }

    /// The totals at its begin.
    pub(crate) fn before(&self) -> WaitTotals {
        self.before
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Takes the totals. Returns whether a window ended.
    pub(crate) fn sample(&mut self, totals: WaitTotals, now: Instant) -> bool {
        let count = totals.count.saturating_sub(self.before.count);
        if count < WINDOW_REQUESTS && now.saturating_duration_since(self.began) < WINDOW {
            return false;
        }
        let sum = totals.sum.saturating_sub(self.before.sum);
        self.mean = (count > 0).then(|| sum.div_f64(u32::try_from(count).map_or(f64::MAX, f64::from)));
        (self.began, self.before) = (now, totals);
        true
    }

    /// The mean of the last window; none if no request was in it.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.mean
    }
}

/// Totals that any thread adds to.
#[derive(Debug, Default)]
pub(crate) struct SharedTotals {
    nanos: AtomicU64,
    count: AtomicU64,
}

impl SharedTotals {
    pub(crate) fn add(&self, wait: Duration) {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> WaitTotals {
        let nanos = self.nanos.load(Ordering::Relaxed);
        WaitTotals { sum: Duration::from_nanos(nanos), count: self.count.load(Ordering::Relaxed) }
    }
}

/// A published wait.
#[derive(Debug)]
pub(crate) struct PublishedWait {
    created: Instant,
    nanos: AtomicU64,
    /// Nanoseconds after `created`; 0 if nothing was published.
    at: AtomicU64,
}

/// A published wait and its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitReading {
    /// The wait.
    pub wait: Duration,
    /// Time since it was published.
    pub age: Duration,
}

impl WaitReading {
    /// Whether it is too old to have an effect.
    pub fn is_stale(&self) -> bool {
        self.age > STALE_AFTER
    }
}

impl PublishedWait {
    pub(crate) fn new(now: Instant) -> Self {
        Self { created: now, nanos: AtomicU64::new(0), at: AtomicU64::new(0) }
    }

    pub(crate) fn publish(&self, wait: Duration, now: Instant) {
        self.nanos.store(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.at.store(clock::nanos_between(self.created, now).max(1), Ordering::Relaxed);
    }

    /// The last published wait; none if there was none.
    pub(crate) fn reading(&self, now: Instant) -> Option<WaitReading> {
        let at = self.at.load(Ordering::Relaxed);
        let wait = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        let age = now.saturating_duration_since(self.created + Duration::from_nanos(at));
        (at > 0).then_some(WaitReading { wait, age })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// X1: a window ends after 100 ms or 2,000 requests, and a window without a request has no mean
    #[test]
    fn a_window_has_the_mean_of_its_requests() {
        let t0 = clock::now();
        let mut window = WaitWindow::new(t0);
        let totals = |count, sum| WaitTotals { sum: ms(sum), count };
        assert!(!window.sample(totals(1_999, 10), t0 + ms(99)));
        assert!(window.sample(totals(2_000, 20_000), t0 + ms(99)));
        assert_eq!(window.mean(), Some(ms(10)));
        assert!(!window.sample(totals(2_001, 20_500), t0 + ms(198)));
        assert!(window.sample(totals(2_001, 20_500), t0 + ms(199)));
        assert_eq!(window.mean(), Some(ms(500)));
        assert!(window.sample(totals(2_001, 20_500), t0 + ms(299)));
        assert_eq!(window.mean(), None);
    }

    /// X1: totals of several threads add up
    #[test]
    fn shared_totals_add_up() {
        let shared = SharedTotals::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| shared.add(ms(2))));
            }
        });
        assert_eq!(shared.totals(), WaitTotals { sum: ms(8_000), count: 4_000 });
    }
}
