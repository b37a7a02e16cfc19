//! Hedged reads: a second attempt for a slow read before the first answered (Dean and Barroso, "The Tail at Scale",
//! 2013; R5).
//!
//! When: after the 95th percentile of the bucket's time to first byte (`latency_tail.rs`), separately for objects and
//! listings. How often: from a budget that requests fill (`hedge_budget.rs`). Where: with a permit of the gate that is
//! free at once and for which no request waits; a hedge never queues.
//!
//! State: the pool actor owns budget and tails (S1). Completed reads count in atomics; at most every 250 ms one of them
//! makes the actor publish the percentile. A read counts with the time its client waited, also if a hedge answered it.
//!
//! *Restart*: kept. If dirty, the budget is empty and the tails are unknown, so nothing is hedged until they are learnt
//! again. *While failed*: no hedges. Reasons and rejected alternatives: `docs/design/retries-and-hedging.md`.

mod actor;
mod hedge_budget;
mod latency_tail;

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_config::HedgingConfig;

pub(crate) use actor::{AcquireHedge, UpdateLatencyTails};
use hedge_budget::HedgeBudget;
use latency_tail::{LatencyCounts, LatencyTail};

use crate::mailbox::AskError;

/// Shortest time between two evaluations by the actor.
const SAMPLE_INTERVAL_MS: u64 = 250;

/// Reads with similar times to first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadKind {
    /// An object or its metadata.
    Object,
    /// A listing of a bucket.
    Listing,
}

const KINDS: usize = 2;

impl ReadKind {
    pub(crate) const ALL: [Self; KINDS] = [Self::Object, Self::Listing];

    /// Label value; the same as that of the class of operations.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Object => "read",
            Self::Listing => "list",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Object => 0,
            Self::Listing => 1,
        }
    }
}

/// Why a slow read is not hedged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeRefusal {
    /// The hedge budget is spent.
    Budget,
    /// The gate is full, or requests wait for a permit.
    Gate,
    /// The actor did not answer.
    Unavailable(AskError),
}

/// Published delays, and counters of reads.
#[derive(Debug)]
pub(crate) struct HedgeStats {
    origin: Instant,
    sampled_ms: AtomicU64,
    delay_min: Duration,
    delay_max: Duration,
    kinds: [KindStats; KINDS],
}

#[derive(Debug)]
struct KindStats {
    /// Shared by the pools of a bucket.
    counts: Arc<LatencyCounts>,
    /// Zero while unknown.
    p95_us: AtomicU64,
}

impl HedgeStats {
    fn new(config: &HedgingConfig, now: Instant) -> Self {
        Self {
            origin: now,
            sampled_ms: AtomicU64::new(0),
            delay_min: config.delay_min,
            delay_max: config.delay_max,
            kinds: array::from_fn(|_| KindStats {
                counts: Arc::new(LatencyCounts::new()),
                p95_us: AtomicU64::new(0),
            }),
        }
    }

    /// The published part of a pool that replaces this one's.
    fn successor(&self, config: &HedgingConfig, now: Instant) -> Self {
        let kind = |at: usize| KindStats {
            counts: Arc::clone(&self.kinds[at].counts),
            p95_us: AtomicU64::new(self.kinds[at].p95_us.load(Ordering::Relaxed)),
        };
        Self { kinds: array::from_fn(kind), ..Self::new(config, now) }
    }

    /// Counts a read's time to first byte. Returns true to one caller every 250 ms, which must notify the actor.
    pub(crate) fn record(&self, kind: ReadKind, latency: Duration, now: Instant) -> bool {
        self.kinds[kind.index()].counts.count(latency);
        let now = now.saturating_duration_since(self.origin).as_millis();
        let now_ms = u64::try_from(now).unwrap_or(u64::MAX);
        let sampled_ms = self.sampled_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(sampled_ms) >= SAMPLE_INTERVAL_MS;
        let claim =
            || self.sampled_ms.compare_exchange(sampled_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        is_due && claim().is_ok()
    }

    /// The published percentile.
    pub(crate) fn p95(&self, kind: ReadKind) -> Option<Duration> {
        let us = self.kinds[kind.index()].p95_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// Delay before a read is hedged; none while it is unknown, or if the upstream is slow as a whole.
    pub(crate) fn delay(&self, kind: ReadKind) -> Option<Duration> {
        let delay = self.p95(kind)?.max(self.delay_min);
        (delay <= self.delay_max).then_some(delay)
    }

    fn publish(&self, kind: ReadKind, p95: Option<Duration>) {
        let us = p95.map_or(0, |p95| u64::try_from(p95.as_micros()).unwrap_or(u64::MAX).max(1));
        self.kinds[kind.index()].p95_us.store(us, Ordering::Relaxed);
    }
}

/// Hedging state of one bucket.
#[derive(Debug, Clone)]
pub(crate) struct Hedging {
    calls_min: u32,
    budget: HedgeBudget,
    tails: LatencyTails,
    stats: Arc<HedgeStats>,
}

/// One tail per kind of read.
pub(crate) type LatencyTails = [LatencyTail; KINDS];

impl Hedging {
    /// The state and its published part; none if hedging is off. The `requests` so far are not credited.
    pub(crate) fn from_config(
        config: &HedgingConfig,
        requests: u64,
        now: Instant,
    ) -> (Option<Self>, Option<Arc<HedgeStats>>) {
        if !config.enabled {
            return (None, None);
        }
        let stats = Arc::new(HedgeStats::new(config, now));
        (Some(Self::new(config, Arc::clone(&stats), requests, now)), Some(stats))
    }

    /// The state of a pool that replaces this one's. What is learnt and spent stays.
    pub(crate) fn successor(
        &self,
        config: &HedgingConfig,
        now: Instant,
    ) -> (Option<Self>, Option<Arc<HedgeStats>>) {
        if !config.enabled {
            return (None, None);
        }
        let stats = Arc::new(self.stats.successor(config, now));
        let budget = self.budget.successor(config.percent.get(), config.burst.get());
        let calls_min = config.min_calls.get();
        let state = Self { calls_min, budget, tails: self.tails.clone(), stats: Arc::clone(&stats) };
        (Some(state), Some(stats))
    }

    fn new(config: &HedgingConfig, stats: Arc<HedgeStats>, requests: u64, now: Instant) -> Self {
        Self {
            calls_min: config.min_calls.get(),
            budget: HedgeBudget::new(config.percent.get(), config.burst.get(), requests),
            tails: array::from_fn(|at| LatencyTail::new(&stats.kinds[at].counts, now)),
            stats,
        }
    }

    /// Whether the budget can pay for one more hedge after `requests` requests.
    pub(crate) fn has_room(&self, requests: u64) -> bool {
        self.budget.has_room(requests)
    }

    /// Pays for a hedge; false if the budget is too low.
    pub(crate) fn spend(&mut self, requests: u64) -> bool {
        self.budget.spend(requests)
    }

    /// The tails with the reads counted up to now.
    pub(crate) fn sample(&self, now: Instant) -> LatencyTails {
        array::from_fn(|at| self.tails[at].updated(&self.stats.kinds[at].counts, now))
    }

    pub(crate) fn set_tails(&mut self, tails: LatencyTails) {
        self.tails = tails;
        for kind in ReadKind::ALL {
            self.stats.publish(kind, self.tails[kind.index()].p95(self.calls_min));
        }
    }

    /// Empties the budget and discards the tails.
    pub(crate) fn reset(&mut self, requests: u64, now: Instant) {
        self.budget.empty(requests);
        self.set_tails(array::from_fn(|at| LatencyTail::new(&self.stats.kinds[at].counts, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn hedging(config: &HedgingConfig, now: Instant) -> (Hedging, Arc<HedgeStats>) {
        let (hedging, stats) =
            Hedging::from_config(&HedgingConfig { enabled: true, ..config.clone() }, 0, now);
        (hedging.unwrap(), stats.unwrap())
    }

    /// R5: the delay is the percentile, at least its floor; above its cap there is none
    #[test]
    fn the_delay_lies_between_its_bounds() {
        let t0 = clock::now();
        let config =
            HedgingConfig { delay_min: millis(20), delay_max: millis(500), ..HedgingConfig::default() };
        for (took, delay) in [(1, Some(20)), (100, Some(100)), (400, Some(400)), (600, None)] {
            let (mut hedging, stats) = hedging(&config, t0);
            assert_eq!(stats.delay(ReadKind::Object), None, "unknown at first");
            (0..200).for_each(|_| {
                stats.record(ReadKind::Object, millis(took), t0);
            });
            let tails = hedging.sample(t0);
            hedging.set_tails(tails);
            let found = stats.delay(ReadKind::Object);
            let is_near = |expected: u64| {
                found.is_some_and(|found| found >= millis(expected) && found <= millis(expected * 9 / 8))
            };
            assert!(delay.map_or(found.is_none(), is_near), "{took}: {found:?}");
            assert_eq!(stats.delay(ReadKind::Listing), None, "listings count separately");
        }
    }

    /// R5, S1: all reads together notify the actor at most four times a second
    #[test]
    fn the_actor_is_notified_four_times_a_second_at_most() {
        let t0 = clock::now();
        let (_hedging, stats) = hedging(&HedgingConfig::default(), t0);
        let notified =
            (0..10_000).filter(|ms| stats.record(ReadKind::Object, millis(1), t0 + millis(*ms))).count();
        assert_eq!(notified, 39);
    }

    /// S5: after a dirty restart the budget is empty and the percentile is unknown
    #[test]
    fn a_reset_hedges_nothing() {
        let t0 = clock::now();
        let (mut hedging, stats) = hedging(&HedgingConfig::default(), t0);
        (0..200).for_each(|_| {
            stats.record(ReadKind::Object, millis(50), t0);
        });
        let tails = hedging.sample(t0);
        hedging.set_tails(tails);
        assert!(stats.delay(ReadKind::Object).is_some() && hedging.has_room(1_000));
        hedging.reset(1_000, t0);
        assert!(stats.delay(ReadKind::Object).is_none() && !hedging.has_room(1_000));
        let tails = hedging.sample(t0);
        hedging.set_tails(tails);
        assert_eq!(stats.p95(ReadKind::Object), None, "earlier reads are ignored");
    }
}
