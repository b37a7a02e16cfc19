//! Asking for a slow read a second time, before the first answer is there (Dean and Barroso, "The Tail at Scale", 2013).
//!
//! When: after the 95th percentile of the bucket's time to a first byte (`tail.rs`), for objects and listings apart, so that about one
//! read in twenty is slow enough. How often: out of a purse that requests pay into (`purse.rs`). Into what: a place in the
//! bucket's gate that is free at once, for which nobody waits; a hedge never queues, and a client that waits is worth more.
//!
//! State and place (S1): purse and tails belong to the bucket's pool actor. A read that is over counts in atomics; whoever counts
//! first after a quarter of a second tells the actor to look, which publishes the percentile. So the path of a request has a
//! load, a count, and at most four messages a second for the whole bucket; a bucket that does not hedge has a look at a `None`.
//!
//! A read counts for as long as its client waited. For one that a hedge answered that is longer than the percentile, as the first attempt
//! was; counted by its hedge, or not at all, the slow would leave the histogram, and each estimate be lower than the one before.
//!
//! *Restart*: kept. Found dirty, the purse is empty and the tails know nothing, so nothing is hedged until they have learnt again.
//! *While failed*: no hedges.
//! Deliberately absent: hedging at once, without a wait, which doubles the load; more than one hedge for a request; a delay that is
//! configured, because it is wrong as soon as the upstream changes.

mod actor;
mod hedge_budget;
mod latency_tail;

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_config::HedgingConfig;

pub(crate) use actor::{AcquireHedge, UpdateLatencyTails};
pub(crate) use hedge_budget::HedgeBudget;
use latency_tail::{LatencyCounts, LatencyTail};

use crate::mailbox::AskError;

/// How often the actor looks at what was counted.
const SAMPLE_INTERVAL_MS: u64 = 250;

/// What is read, as far as its time to a first byte differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadKind {
    /// An object, or what is said of it.
    Object,
    /// What a bucket holds.
    Listing,
}

const KINDS: usize = 2;

impl ReadKind {
    pub(crate) const ALL: [Self; KINDS] = [Self::Object, Self::Listing];

    /// The word in labels; it is that of the class of operations.
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

/// Why a slow read is not asked for a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeRefusal {
    /// The purse is empty.
    Budget,
    /// No place in the gate is free, or somebody waits for one.
    Gate,
    /// The actor gave no answer.
    Unavailable(AskError),
}

/// What is published, and where reads count.
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
    counts: LatencyCounts,
    /// Zero where too little is known.
    p95_us: AtomicU64,
}

impl HedgeStats {
    fn new(config: &HedgingConfig, now: Instant) -> Self {
        Self {
            origin: now,
            sampled_ms: AtomicU64::new(0),
            delay_min: config.delay_min,
            delay_max: config.delay_max,
            kinds: array::from_fn(|_| KindStats { counts: LatencyCounts::new(), p95_us: AtomicU64::new(0) }),
        }
    }

    /// A read had its first byte after so long. True for one caller every quarter of a second, who is to tell the actor.
    pub(crate) fn record(&self, kind: ReadKind, latency: Duration, now: Instant) -> bool {
        self.kinds[kind.index()].counts.count(latency);
        let now = now.saturating_duration_since(self.origin).as_millis();
        let now_ms = u64::try_from(now).unwrap_or(u64::MAX);
        let looked_ms = self.sampled_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(looked_ms) >= SAMPLE_INTERVAL_MS;
        let claim =
            || self.sampled_ms.compare_exchange(looked_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        is_due && claim().is_ok()
    }

    /// The published percentile.
    pub(crate) fn p95(&self, kind: ReadKind) -> Option<Duration> {
        let us = self.kinds[kind.index()].p95_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// How long to wait for a read before it is asked for a second time; none where nothing is known, or the upstream is slow
    /// as a whole.
    pub(crate) fn delay(&self, kind: ReadKind) -> Option<Duration> {
        let delay = self.p95(kind)?.max(self.delay_min);
        (delay <= self.delay_max).then_some(delay)
    }

    fn publish(&self, kind: ReadKind, p95: Option<Duration>) {
        let us = p95.map_or(0, |p95| u64::try_from(p95.as_micros()).unwrap_or(u64::MAX).max(1));
        self.kinds[kind.index()].p95_us.store(us, Ordering::Relaxed);
    }
}

/// One bucket's.
#[derive(Debug)]
pub(crate) struct Hedging {
    calls_min: u32,
    budget: HedgeBudget,
    tails: LatencyTails,
    stats: Arc<HedgeStats>,
}

/// One for each kind.
pub(crate) type LatencyTails = [LatencyTail; KINDS];

impl Hedging {
    /// The state and what it publishes; none where the configuration wants none.
    pub(crate) fn from_config(
        config: &HedgingConfig,
        now: Instant,
    ) -> (Option<Self>, Option<Arc<HedgeStats>>) {
        if !config.enabled {
            return (None, None);
        }
        let signs = Arc::new(HedgeStats::new(config, now));
        (Some(Self::new(config, Arc::clone(&signs), now)), Some(signs))
    }

    fn new(config: &HedgingConfig, stats: Arc<HedgeStats>, now: Instant) -> Self {
        Self {
            calls_min: config.min_calls.get(),
            budget: HedgeBudget::new(config.percent.get(), config.burst.get(), 0),
            tails: array::from_fn(|at| LatencyTail::new(&stats.kinds[at].counts, now)),
            stats,
        }
    }

    /// The purse without what one more hedge costs, after so many requests in all.
    pub(crate) fn decide(&self, requests: u64) -> Option<HedgeBudget> {
        self.budget.spend(requests)
    }

    pub(crate) fn spend(&mut self, purse: HedgeBudget) {
        self.budget = purse;
    }

    /// What is known with what was counted by now.
    pub(crate) fn sample(&self, now: Instant) -> LatencyTails {
        array::from_fn(|at| self.tails[at].updated(&self.stats.kinds[at].counts, now))
    }

    pub(crate) fn set_tails(&mut self, tails: LatencyTails) {
        self.tails = tails;
        for kind in ReadKind::ALL {
            self.stats.publish(kind, self.tails[kind.index()].p95(self.calls_min));
        }
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self, requests: u64, now: Instant) {
        self.budget = self.budget.emptied(requests);
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
        let (hedging, signs) = Hedging::from_config(&HedgingConfig { enabled: true, ..config.clone() }, now);
        (hedging.unwrap(), signs.unwrap())
    }

    /// R5: the delay is the percentile, not below its floor; above its cap there is none
    #[test]
    fn the_delay_lies_between_its_bounds() {
        let t0 = clock::now();
        let config =
            HedgingConfig { delay_min: millis(20), delay_max: millis(500), ..HedgingConfig::default() };
        for (took, delay) in [(1, Some(20)), (100, Some(100)), (400, Some(400)), (600, None)] {
            let (mut hedging, signs) = hedging(&config, t0);
            assert_eq!(signs.delay(ReadKind::Object), None, "nothing is known");
            (0..200).for_each(|_| {
                signs.record(ReadKind::Object, millis(took), t0);
            });
            let tails = hedging.sample(t0);
            hedging.set_tails(tails);
            let found = signs.delay(ReadKind::Object);
            let is_near = |expected: u64| {
                found.is_some_and(|found| found >= millis(expected) && found <= millis(expected * 9 / 8))
            };
            assert!(delay.map_or(found.is_none(), is_near), "{took}: {found:?}");
            assert_eq!(signs.delay(ReadKind::Listing), None, "listings are apart");
        }
    }

    /// R5, S1: reads tell the actor at most four times a second, all together
    #[test]
    fn the_actor_is_notified_four_times_a_second_at_most() {
        let t0 = clock::now();
        let (_hedging, signs) = hedging(&HedgingConfig::default(), t0);
        let told =
            (0..10_000).filter(|ms| signs.record(ReadKind::Object, millis(1), t0 + millis(*ms))).count();
        assert_eq!(told, 39);
    }

    /// S5: found dirty, nothing is left to spend, and nothing is known
    #[test]
    fn a_reset_hedges_nothing() {
        let t0 = clock::now();
        let (mut hedging, signs) = hedging(&HedgingConfig::default(), t0);
        (0..200).for_each(|_| {
            signs.record(ReadKind::Object, millis(50), t0);
        });
        let tails = hedging.sample(t0);
        hedging.set_tails(tails);
        assert!(signs.delay(ReadKind::Object).is_some() && hedging.decide(1_000).is_some());
        hedging.reset(1_000, t0);
        assert!(signs.delay(ReadKind::Object).is_none() && hedging.decide(1_000).is_none());
        let tails = hedging.sample(t0);
        hedging.set_tails(tails);
        assert_eq!(signs.p95(ReadKind::Object), None, "what was counted before counts no more");
    }
}
