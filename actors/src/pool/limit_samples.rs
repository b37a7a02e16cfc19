//! What `adaptive.rs` learns from, and what it has learnt, outside the mailbox: requests count here, without an ask.
//!
//! The pool's actor takes the counts when it handles a message anyway, once in an interval at most. A count that falls between two
//! windows belongs to the later one. What the limit is stands here too, for requests, views and scrapes.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::AdaptiveConfig;

use crate::pool::adaptive_limit::{AdaptiveLimit, LimitCause, SampleWindow};
use crate::pool::latency_histogram::SharedLatencyHistogram;

/// How an upstream says that it has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverloadSignal {
    /// No answer, or no more of it, in time.
    Timeout,
    /// 429 or 503.
    Throttling,
}

/// What the status page and a scrape show of a limit that is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitView {
    /// Permits that may be out now.
    pub limit: usize,
    /// Why it last moved.
    pub cause: LimitCause,
    /// When.
    pub moved: Instant,
    /// What an answer takes without a queue at the upstream, as far as is known.
    pub baseline: Option<Duration>,
    /// How often it was lowered, in the order of `LimitCause::REDUCTIONS`.
    pub reductions: [u64; 3],
}

/// One bucket's.
#[derive(Debug)]
pub(crate) struct LimitSamples {
    origin: Instant,
    latencies: SharedLatencyHistogram,
    timeouts: AtomicU32,
    throttled: AtomicU32,
    stale_drops: AtomicU32,
    dropped_us: AtomicU64,
    peak: AtomicUsize,
    /// Requests that began earlier say nothing about the limit as it is, in microseconds from the origin.
    moved_us: AtomicU64,
    lowered_us: AtomicU64,
    due_us: AtomicU64,
    limit: AtomicUsize,
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
            limit: AtomicUsize::new(limit),
            view: Mutex::new(view),
        }
    }

    fn micros(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    /// A request that began then was answered after so long, while so many were under way.
    pub(crate) fn record_latency(&self, began: Instant, latency: Duration, live: usize) {
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
        if self.micros(began) >= self.moved_us.load(Ordering::Relaxed) {
            self.latencies.record(latency);
        }
    }

    /// A request was too much for the upstream, from when it began until now.
    pub(crate) fn record_drop(&self, began: Instant, now: Instant, pressure: OverloadSignal) {
        let began_us = self.micros(began);
        if began_us < self.lowered_us.load(Ordering::Relaxed) {
            self.stale_drops.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.dropped_us.fetch_add(self.micros(now).saturating_sub(began_us).max(1), Ordering::Relaxed);
        let count = match pressure {
            OverloadSignal::Timeout => &self.timeouts,
            OverloadSignal::Throttling => &self.throttled,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn has_drops(&self) -> bool {
        self.timeouts.load(Ordering::Relaxed) > 0 || self.throttled.load(Ordering::Relaxed) > 0
    }

    /// Permits that may be out now.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Acquire)
    }

    /// Whether the actor may look again.
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
        self.limit.store(moved.to, Ordering::Release);
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

/// A step of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitChange {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) cause: LimitCause,
}

/// The actor's side: the machine, and when it looks next.
#[derive(Debug)]
pub(crate) struct LimitLearner {
    config: AdaptiveConfig,
    concurrent_max: usize,
    limit: AdaptiveLimit,
    samples: Arc<LimitSamples>,
    due: Instant,
    /// From when on a drop is looked at before that.
    drop_check_due: Instant,
}

impl LimitLearner {
    /// None where nothing is to be learnt.
    pub(crate) fn from_config(config: &AdaptiveConfig, concurrent_max: usize, now: Instant) -> Option<Self> {
        config.enabled.then(|| Self::new(config, concurrent_max, now))
    }

    pub(crate) fn new(config: &AdaptiveConfig, concurrent_max: usize, now: Instant) -> Self {
        let limit = AdaptiveLimit::new(config, concurrent_max);
        let samples = Arc::new(LimitSamples::new(limit.limit(), now));
        Self { config: config.clone(), concurrent_max, limit, samples, due: now, drop_check_due: now }
    }

    pub(crate) fn samples(&self) -> &Arc<LimitSamples> {
        &self.samples
    }

    /// Permits that may be out now.
    pub(crate) fn limit(&self) -> usize {
        self.limit.limit()
    }

    /// Looks at what came, if it is time and enough has come. The first drop is not waited with: those that come at once come in
    /// numbers.
    pub(crate) fn update(&mut self, now: Instant) -> Option<LimitChange> {
        let is_cut = now >= self.drop_check_due && self.samples.has_drops();
        if now < self.due && !is_cut {
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

    /// Begins anew at the floor; what is under way counts no more.
    pub(crate) fn reset(&mut self, now: Instant) {
        let from = self.limit.limit();
        self.limit = AdaptiveLimit::new(&self.config, self.concurrent_max);
        let moved = LimitChange { from, to: self.limit.limit(), cause: LimitCause::Start };
        self.samples.publish(&self.limit, Some(moved), now);
        self.samples.drain_window(0);
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
