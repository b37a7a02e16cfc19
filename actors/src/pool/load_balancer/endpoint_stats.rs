//! State of each endpoint outside the mailbox: requests count here and read from here without a message.
//!
//! Only the state builds endpoint tickets, which raises the load. Successes and latency are counted without locks; a
//! sample lost to a race does no harm. The actor publishes an endpoint's state and ejections on every change, for
//! failure reports, views and scrapes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::pool::load_balancer::ejection_counts::EjectionCounts;
use crate::pool::load_balancer::endpoint::EndpointState;
use crate::pool::load_balancer::tier::{ServingView, Tier, TierRules};
use crate::pool::operator_drain::drain_cell::DrainCell;

/// Latencies below this count as equal: the difference comes from the gateway's own machine.
const LATENCY_FLOOR_US: u64 = 10_000;
/// A new latency moves the average by this fraction (1/n).
const LATENCY_INERTIA: u64 = 4;

/// State of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointStats {
    in_flight: Arc<AtomicUsize>,
    calls: Arc<CallStats>,
    /// Shared by the pools of the bucket, as `calls`.
    drain: Arc<DrainCell>,
    state: Mutex<EndpointState>,
}

/// What the pools of a bucket count together: their calls go to the same endpoint.
#[derive(Debug, Default)]
struct CallStats {
    successes: AtomicU64,
    latency_us: AtomicU64,
    ejections: AtomicU64,
}

/// All endpoints of a bucket.
#[derive(Debug)]
pub(crate) struct EndpointStatsTable {
    endpoints: Vec<EndpointStats>,
    ejection_counts: Arc<EjectionCounts>,
    bucket_drain: Arc<DrainCell>,
    /// All endpoints failed, and all are called.
    panicking: AtomicBool,
    /// The tier that serves, and when it changes; none before the load balancer is built.
    tier: Mutex<Option<(Tier, TierRules)>>,
}

/// An endpoint in the status page and in metrics.
#[derive(Debug, Clone, Copy)]
pub struct EndpointView {
    /// Requests in flight.
    pub in_flight: usize,
    /// Whether its health allows calls.
    pub state: EndpointState,
    /// Whether an operator has ordered that it gets no new call.
    pub is_draining: bool,
    /// Average time to the first byte of an answer; none before the first.
    pub latency: Option<Duration>,
    /// Number of ejections.
    pub ejections: u64,
}

impl EndpointStats {
    fn new() -> Self {
        Self {
            in_flight: Arc::default(),
            calls: Arc::default(),
            drain: Arc::default(),
            state: Mutex::new(EndpointState::InRotation),
        }
    }

    /// The same endpoint in another pool of the bucket, with a state of its own.
    fn successor(&self) -> Self {
        let (in_flight, calls) = (Arc::clone(&self.in_flight), Arc::clone(&self.calls));
        Self { in_flight, calls, drain: Arc::clone(&self.drain), ..Self::new() }
    }

    pub(crate) fn in_flight(&self) -> &Arc<AtomicUsize> {
        &self.in_flight
    }

    pub(crate) fn drain(&self) -> &DrainCell {
        &self.drain
    }

    /// Whether it is healthy and does not drain.
    fn is_candidate(&self, now: Instant) -> bool {
        self.state(now) == EndpointState::InRotation && !self.drain.is_draining(now)
    }

    pub(crate) fn successes(&self) -> u64 {
        self.calls.successes.load(Ordering::Acquire)
    }

    pub(crate) fn count_success(&self) {
        self.calls.successes.fetch_add(1, Ordering::AcqRel);
    }

    /// Successes and latency as they cross to a successor.
    pub(super) fn exported(&self) -> (u64, u64) {
        (self.successes(), self.calls.latency_us.load(Ordering::Relaxed))
    }

    /// Goes on from the successes and the latency of a predecessor.
    pub(super) fn import(&self, successes: u64, latency_us: u64) {
        self.calls.successes.fetch_max(successes, Ordering::AcqRel);
        self.calls.latency_us.store(latency_us.min(1 << 40), Ordering::Relaxed);
    }

    /// Updates the average latency.
    pub(crate) fn record_latency(&self, latency: Duration) {
        let new = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        let old = self.calls.latency_us.load(Ordering::Relaxed);
        let old = if old == 0 { new.min(LATENCY_FLOOR_US) } else { old };
        let average = (old * (LATENCY_INERTIA - 1) + new) / LATENCY_INERTIA;
        self.calls.latency_us.store(average.max(1), Ordering::Relaxed);
    }

    /// Resets the latency of an endpoint that returns.
    pub(crate) fn reset_latency(&self) {
        self.calls.latency_us.store(0, Ordering::Relaxed);
    }

    /// Cost of a further request: requests in flight, weighted by latency in powers of two.
    pub(crate) fn cost(&self) -> u64 {
        let latency = self.calls.latency_us.load(Ordering::Relaxed).max(LATENCY_FLOOR_US);
        (self.load() as u64 + 1) << (latency / LATENCY_FLOOR_US).ilog2().min(20)
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, state: EndpointState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(crate) fn count_ejection(&self) {
        self.calls.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// The state at `now`; the published one may have expired.
    pub(crate) fn state(&self, now: Instant) -> EndpointState {
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            EndpointState::BackingOff(until) | EndpointState::Ejected(until, _) if until <= now => {
                EndpointState::InRotation
            }
            state => state,
        }
    }

    fn view(&self, now: Instant) -> EndpointView {
        let latency = Some(self.calls.latency_us.load(Ordering::Relaxed)).filter(|us| *us > 0);
        EndpointView {
            in_flight: self.load(),
            state: self.state(now),
            is_draining: self.drain.is_draining(now),
            latency: latency.map(Duration::from_micros),
            ejections: self.calls.ejections.load(Ordering::Relaxed),
        }
    }
}

impl EndpointStatsTable {
    pub(crate) fn new(endpoints: usize) -> Self {
        let endpoints = std::iter::repeat_with(EndpointStats::new).take(endpoints).collect();
        Self::with(endpoints, Arc::default(), Arc::default())
    }

    fn with(
        endpoints: Vec<EndpointStats>,
        ejection_counts: Arc<EjectionCounts>,
        bucket_drain: Arc<DrainCell>,
    ) -> Self {
        let (panicking, tier) = (AtomicBool::new(false), Mutex::new(None));
        Self { endpoints, ejection_counts, bucket_drain, panicking, tier }
    }

    /// The table of a pool that replaces this one's. `sources`: the index here of each endpoint there, if it has one.
    pub(crate) fn successor(&self, sources: &[Option<usize>]) -> Self {
        let known = |source: &Option<usize>| source.and_then(|at| self.endpoints.get(at));
        let endpoint = |source| known(source).map_or_else(EndpointStats::new, EndpointStats::successor);
        let endpoints = sources.iter().map(endpoint).collect();
        Self::with(endpoints, Arc::clone(&self.ejection_counts), Arc::clone(&self.bucket_drain))
    }

    pub(crate) fn ejection_counts(&self) -> &EjectionCounts {
        &self.ejection_counts
    }

    pub(crate) fn bucket_drain(&self) -> &DrainCell {
        &self.bucket_drain
    }

    /// If all endpoints drain, when the first drain ends.
    pub(crate) fn all_draining(&self, now: Instant) -> Option<Option<Instant>> {
        if self.endpoints.is_empty() {
            return None;
        }
        let mut first = None;
        for endpoint in &self.endpoints {
            let until = endpoint.drain.drain(now)?.until;
            first = first.into_iter().chain(until).min();
        }
        Some(first)
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub(crate) fn endpoint(&self, endpoint: usize) -> &EndpointStats {
        &self.endpoints[endpoint]
    }

    /// Whether an endpoint other than this one could serve.
    pub(crate) fn has_other(&self, endpoint: usize, now: Instant) -> bool {
        let could = |(i, stats): (usize, &EndpointStats)| i != endpoint && stats.is_candidate(now);
        !self.is_panicking() && self.endpoints.iter().enumerate().any(could)
    }

    pub(crate) fn is_panicking(&self) -> bool {
        self.panicking.load(Ordering::Acquire)
    }

    pub(crate) fn set_panicking(&self, is: bool) {
        self.panicking.store(is, Ordering::Release);
    }

    pub(crate) fn publish_tier(&self, tier: Tier, rules: TierRules) {
        *self.tier.lock().unwrap_or_else(PoisonError::into_inner) = Some((tier, rules));
    }

    /// The tier that serves, as last published.
    pub(crate) fn tier(&self) -> Option<Tier> {
        self.tier.lock().unwrap_or_else(PoisonError::into_inner).map(|(tier, _)| tier)
    }

    /// The endpoints that would serve a request at `now`.
    pub(crate) fn serving(&self, now: Instant) -> ServingView {
        let is_panicking = self.is_panicking();
        let is_usable = |i: usize| self.endpoints.get(i).is_some_and(|stats| stats.is_candidate(now));
        match *self.tier.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((tier, rules)) => rules.view(tier, is_panicking, is_usable, now),
            None => ServingView { endpoints: 0..self.len(), is_panicking, failover: None },
        }
    }

    pub(crate) fn views(&self, now: Instant) -> Vec<EndpointView> {
        self.endpoints.iter().map(|endpoint| endpoint.view(now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P5: latency is weighted in powers of two, and latencies below the floor are equal
    #[test]
    fn latency_weighs_above_the_floor() {
        let stats = EndpointStatsTable::new(2);
        let cost = |latency_ms, requests| {
            let endpoint = EndpointStats::new();
            (0..50).for_each(|_| endpoint.record_latency(Duration::from_millis(latency_ms)));
            endpoint.in_flight.store(requests, Ordering::Relaxed);
            endpoint.cost()
        };
        assert_eq!(cost(1, 0), cost(9, 0));
        assert_eq!(cost(1, 0), stats.endpoint(0).cost(), "an endpoint without a latency costs the same");
        assert!(cost(100, 0) > cost(15, 3));
        assert!(cost(100, 0) < cost(15, 10), "enough requests in flight cost more");
        assert_eq!(cost(1_000_000_000, 0), 1 << 20);
    }
}
