//! What is known of each endpoint outside the mailbox: requests count here and read from here, without an ask.
//!
//! The load rises only where the state builds a ticket; successes and latency merely count (a sample lost to a race is no
//! harm); standing and ejections are published by the actor whenever they change and are for failures, views and scrapes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::pool::endpoint::EndpointState;

/// Latencies below this are all alike: what differs there is the gateway's own machine.
const LATENCY_FLOOR_US: u64 = 10_000;
/// A new latency moves the average by one part in so many.
const LATENCY_INERTIA: u64 = 4;

/// One endpoint's.
#[derive(Debug)]
pub(crate) struct EndpointStats {
    in_flight: Arc<AtomicUsize>,
    successes: AtomicU64,
    latency_us: AtomicU64,
    ejections: AtomicU64,
    state: Mutex<EndpointState>,
}

/// All endpoints of a bucket.
#[derive(Debug)]
pub(crate) struct EndpointStatsTable {
    endpoints: Vec<EndpointStats>,
    /// Every endpoint fails, and all are called.
    panicking: AtomicBool,
}

/// What the status page and a scrape show of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct EndpointView {
    /// Requests it works on.
    pub in_flight: usize,
    /// Whether it is called.
    pub state: EndpointState,
    /// Average time to the first byte of an answer; none before the first.
    pub latency: Option<Duration>,
    /// Times it was ejected.
    pub ejections: u64,
}

impl EndpointStats {
    fn new() -> Self {
        Self {
            in_flight: Arc::default(),
            successes: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            state: Mutex::new(EndpointState::InRotation),
        }
    }

    pub(crate) fn in_flight(&self) -> &Arc<AtomicUsize> {
        &self.in_flight
    }

    pub(crate) fn successes(&self) -> u64 {
        self.successes.load(Ordering::Acquire)
    }

    pub(crate) fn count_success(&self) {
        self.successes.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes an answer's latency into the average.
    pub(crate) fn record_latency(&self, latency: Duration) {
        let new = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        let old = self.latency_us.load(Ordering::Relaxed);
        let old = if old == 0 { new.min(LATENCY_FLOOR_US) } else { old };
        let average = (old * (LATENCY_INERTIA - 1) + new) / LATENCY_INERTIA;
        self.latency_us.store(average.max(1), Ordering::Relaxed);
    }

    /// An endpoint that comes back is measured anew.
    pub(crate) fn reset_latency(&self) {
        self.latency_us.store(0, Ordering::Relaxed);
    }

    /// How much a further request would be: requests under way, weighed by latency in powers of two.
    pub(crate) fn cost(&self) -> u64 {
        let latency = self.latency_us.load(Ordering::Relaxed).max(LATENCY_FLOOR_US);
        (self.load() as u64 + 1) << (latency / LATENCY_FLOOR_US).ilog2().min(20)
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, standing: EndpointState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    pub(crate) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Its standing now: the actor looks at the time only when somebody asks it.
    pub(crate) fn state(&self, now: Instant) -> EndpointState {
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            EndpointState::BackingOff(until) | EndpointState::Ejected(until, _) if until <= now => {
                EndpointState::InRotation
            }
            standing => standing,
        }
    }

    fn view(&self, now: Instant) -> EndpointView {
        let latency = Some(self.latency_us.load(Ordering::Relaxed)).filter(|us| *us > 0);
        EndpointView {
            in_flight: self.load(),
            state: self.state(now),
            latency: latency.map(Duration::from_micros),
            ejections: self.ejections.load(Ordering::Relaxed),
        }
    }
}

impl EndpointStatsTable {
    pub(crate) fn new(endpoints: usize) -> Self {
        let endpoints = std::iter::repeat_with(EndpointStats::new).take(endpoints).collect();
        Self { endpoints, panicking: AtomicBool::new(false) }
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub(crate) fn endpoint(&self, endpoint: usize) -> &EndpointStats {
        &self.endpoints[endpoint]
    }

    /// Whether another endpoint than this one could serve.
    pub(crate) fn has_other(&self, endpoint: usize, now: Instant) -> bool {
        let could = |(i, signs): (usize, &EndpointStats)| {
            i != endpoint && signs.state(now) == EndpointState::InRotation
        };
        !self.is_panicking() && self.endpoints.iter().enumerate().any(could)
    }

    pub(crate) fn is_panicking(&self) -> bool {
        self.panicking.load(Ordering::Acquire)
    }

    pub(crate) fn set_panicking(&self, is: bool) {
        self.panicking.store(is, Ordering::Release);
    }

    pub(crate) fn views(&self, now: Instant) -> Vec<EndpointView> {
        self.endpoints.iter().map(|endpoint| endpoint.view(now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P5: latency weighs in powers of two, and what is below the floor is alike
    #[test]
    fn latency_weighs_above_the_floor() {
        let signs = EndpointStatsTable::new(2);
        let cost = |latency_ms, requests| {
            let endpoint = EndpointStats::new();
            (0..50).for_each(|_| endpoint.record_latency(Duration::from_millis(latency_ms)));
            endpoint.in_flight.store(requests, Ordering::Relaxed);
            endpoint.cost()
        };
        assert_eq!(cost(1, 0), cost(9, 0));
        assert_eq!(cost(1, 0), signs.endpoint(0).cost(), "one that was never measured is as good");
        assert!(cost(100, 0) > cost(15, 3));
        assert!(cost(100, 0) < cost(15, 10), "enough requests under way weigh more");
        assert_eq!(cost(1_000_000_000, 0), 1 << 20);
    }
}
