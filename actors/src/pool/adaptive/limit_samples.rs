//! Samples for the adaptive limit (`adaptive_limit.rs`), outside the mailbox: requests count here without a message.
//!
//! The pool actor drains the counters when it handles another message anyway, at most once per interval. A sample
//! recorded during the drain belongs to the later window. The pools of a bucket share the samples, and the newest one
//! learns. The limit itself is that of the gate.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::AdaptiveConfig;

use crate::pool::adaptive::adaptive_limit::{AdaptiveLimit, LimitCause, SampleWindow};
use crate::pool::adaptive::latency_histogram::SharedLatencyHistogram;

/// How an upstream signals overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverloadSignal {
    /// No answer in time, or the body stopped.
    Timeout,
    /// Status 429 or 503.
    Throttling,
}

/// The learnt limit in the status page and in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitView {
    /// Permits that may be in use now.
    pub limit: usize,
    /// Cause of the last change.
    pub cause: LimitCause,
    /// Time of the last change.
    pub moved: Instant,
    /// Estimated latency without a queue at the upstream; none while unknown.
    pub baseline: Option<Duration>,
    /// Number of reductions by cause, in the order of `LimitCause::REDUCTIONS`.
    pub reductions: [u64; 3],
}

/// Samples of one bucket, and the view of its limit.
#[derive(Debug)]
pub(crate) struct LimitSamples {
    origin: Instant,
    latencies: SharedLatencyHistogram,
    timeouts: AtomicU32,
    throttled: AtomicU32,
    stale_drops: AtomicU32,
    dropped_us: AtomicU64,
    peak: AtomicUsize,
    /// Time of the last change in microseconds since the origin. Latencies of earlier requests do not count.
    moved_us: AtomicU64,
    lowered_us: AtomicU64,
    due_us: AtomicU64,
    view: Mutex<LimitView>,
}

impl LimitSamples {
    fn new(limit: usize, now: Instant) -> Self {
        let view =
            LimitView { limit, cause: LimitCause::Start, moved: now, baseline: None, reductions: [0; 3] };
        Self {
            origin: now,
            latencies: SharedLatencyHistogram::new(),
            timeouts: AtomicU32::new(0),
            throttled: AtomicU32::new(0),
            stale_drops: AtomicU32::new(0),
            dropped_us: AtomicU64::new(0),
            peak: AtomicUsize::new(0),
            moved_us: AtomicU64::new(0),
            lowered_us: AtomicU64::new(0),
            due_us: AtomicU64::new(0),
            view: Mutex::new(view),
        }
    }

    fn micros(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    /// Records the latency of a request that began at `began`, with `live` requests in flight.
    pub(crate) fn record_latency(&self, began: Instant, latency: Duration, live: usize) {
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
        if self.micros(began) >= self.moved_us.load(Ordering::Relaxed) {
            self.latencies.record(latency);
        }
    }

    /// Records a request that overloaded the upstream; it lasted from `began` to `now`.
    pub(crate) fn record_drop(&self, began: Instant, now: Instant, signal: OverloadSignal) {
        let began_us = self.micros(began);
        if began_us < self.lowered_us.load(Ordering::Relaxed) {
            self.stale_drops.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.dropped_us.fetch_add(self.micros(now).saturating_sub(began_us).max(1), Ordering::Relaxed);
        let count = match signal {
            OverloadSignal::Timeout => &self.timeouts,
            OverloadSignal::Throttling => &self.throttled,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn has_drops(&self) -> bool {
        self.timeouts.load(Ordering::Relaxed) > 0 || self.throttled.load(Ordering::Relaxed) > 0
    }

    /// Whether the actor may evaluate the samples again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.micros(now) >= self.due_us.load(Ordering::Relaxed)
    }

    pub(crate) fn view(&self) -> LimitView {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drain_window(&self, needed: usize) -> Option<SampleWindow> {
        let drops = [&self.timeouts, &self.throttled, &self.stale_drops];
        let has_drops = self.has_drops() || self.stale_drops.load(Ordering::Relaxed) > 0;
        if !has_drops && (self.latencies.count() as usize) < needed {
            return None;
        }
        let [timeouts, throttled, stale_drops] = drops.map(|count| count.swap(0, Ordering::Relaxed));
        let dropped_us = self.dropped_us.swap(0, Ordering::Relaxed);
        let peak = self.peak.swap(0, Ordering::Relaxed);
        Some(SampleWindow {
            latencies: self.latencies.drain_counts(),
            timeouts,
            throttled,
            stale_drops,
            dropped_us,
            peak,
        })
    }

    fn publish(&self, core: &AdaptiveLimit, moved: Option<LimitChange>, now: Instant) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.baseline = core.baseline();
        let Some(moved) = moved else { return };
        (view.limit, view.cause, view.moved) = (moved.to, moved.cause, now);
        self.moved_us.store(self.micros(now), Ordering::Relaxed);
        if moved.to < moved.from {
            self.lowered_us.store(self.micros(now), Ordering::Relaxed);
            let causes = LimitCause::REDUCTIONS.iter().position(|cause| *cause == moved.cause);
            if let Some(cause) = causes {
                view.reductions[cause] += 1;
            }
        }
    }
}

/// A change of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitChange {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) cause: LimitCause,
}

/// The actor's side: the limit and the times of the next evaluation.
#[derive(Debug, Clone)]
pub(crate) struct LimitLearner {
    config: AdaptiveConfig,
    concurrent_max: usize,
    limit: AdaptiveLimit,
    samples: Arc<LimitSamples>,
    due: Instant,
    /// Earliest time at which a drop is evaluated before `due`.
    drop_check_due: Instant,
}

impl LimitLearner {
    /// None if the adaptive limit is off.
    pub(crate) fn from_config(config: &AdaptiveConfig, concurrent_max: usize, now: Instant) -> Option<Self> {
        config.enabled.then(|| Self::new(config, concurrent_max, now))
    }

    pub(crate) fn new(config: &AdaptiveConfig, concurrent_max: usize, now: Instant) -> Self {
        let limit = AdaptiveLimit::new(config, concurrent_max);
        let samples = Arc::new(LimitSamples::new(limit.limit(), now));
        Self { config: config.clone(), concurrent_max, limit, samples, due: now, drop_check_due: now }
    }

    /// The learner of a pool that replaces this one's; none if its limit is not learnt.
    pub(crate) fn successor(
        &self,
        config: &AdaptiveConfig,
        concurrent_max: usize,
        now: Instant,
    ) -> Option<Self> {
        config.enabled.then(|| Self {
            config: config.clone(),
            concurrent_max,
            limit: self.limit.successor(config, concurrent_max),
            samples: Arc::clone(&self.samples),
            due: now,
            drop_check_due: now,
        })
    }

    /// The learner of a pool that replaces one that does not answer: the published limit stays in force.
    pub(crate) fn from_published(
        samples: &Arc<LimitSamples>,
        config: &AdaptiveConfig,
        concurrent_max: usize,
        now: Instant,
    ) -> Option<Self> {
        let LimitView { limit, baseline, .. } = samples.view();
        let new = Self::from_config(config, concurrent_max, now)?;
        Some(Self { limit: new.limit.resumed(limit, baseline), samples: Arc::clone(samples), ..new })
    }

    /// Publishes the limit with which this learner begins, if it is another than the last one.
    pub(crate) fn publish_start(&self, now: Instant) {
        let (from, to) = (self.samples.view().limit, self.limit.limit());
        let moved = (from != to).then_some(LimitChange { from, to, cause: LimitCause::Start });
        self.samples.publish(&self.limit, moved, now);
    }

    /// Goes on from the limit and the baseline of a predecessor.
    pub(crate) fn import(&mut self, limit: usize, baseline: Option<Duration>) {
        self.limit = AdaptiveLimit::new(&self.config, self.concurrent_max).resumed(limit, baseline);
    }

    pub(crate) fn samples(&self) -> &Arc<LimitSamples> {
        &self.samples
    }

    /// Permits that may be in use now.
    pub(crate) fn limit(&self) -> usize {
        self.limit.limit()
    }

    /// Evaluates the samples if it is due and there are enough. The first drop is evaluated at once, because drops come
    /// in numbers.
    pub(crate) fn update(&mut self, now: Instant) -> Option<LimitChange> {
        let is_drop_due = now >= self.drop_check_due && self.samples.has_drops();
        if now < self.due && !is_drop_due {
            return None;
        }
        self.due = now + self.config.interval;
        self.samples.due_us.store(self.samples.micros(self.due), Ordering::Relaxed);
        let window = self.samples.drain_window(self.limit.samples_needed())?;
        let from = self.limit.limit();
        let cause = self.limit.evaluate(&window, now);
        let moved = cause.map(|cause| LimitChange { from, to: self.limit.limit(), cause });
        if moved.is_some_and(|moved| moved.to < from) {
            self.drop_check_due = self.due;
        }
        self.samples.publish(&self.limit, moved, now);
        moved
    }

    /// Starts again at the floor; requests in flight no longer count.
    pub(crate) fn reset(&mut self, now: Instant) {
        let from = self.limit.limit();
        self.limit = AdaptiveLimit::new(&self.config, self.concurrent_max);
        let moved = LimitChange { from, to: self.limit.limit(), cause: LimitCause::Start };
        self.samples.publish(&self.limit, Some(moved), now);
        self.samples.drain_window(0);
    }
}

#[cfg(test)]
#[path = "limit_samples_tests.rs"]
mod tests;
