//! What `adaptive.rs` learns from, and what it has learnt, outside the mailbox: requests count here, without an ask.
//!
//! The pool's actor takes the counts when it handles a message anyway, once in an interval at most. A count that falls between two
//! windows belongs to the later one. What the limit is stands here too, for requests, views and scrapes.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_config::AdaptiveConfig;

use crate::pool::adaptive::{Adaptive, LimitCause, Window};
use crate::pool::latencies::SharedLatencies;

/// How an upstream says that it has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
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
pub(crate) struct Samples {
    origin: Instant,
    latencies: SharedLatencies,
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

impl Samples {
    fn new(limit: usize, now: Instant) -> Self {
        let view =
            LimitView { limit, cause: LimitCause::Start, moved: now, baseline: None, reductions: [0; 3] };
        Self {
            origin: now,
            latencies: SharedLatencies::new(),
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

    fn us(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    /// A request that began then was answered after so long, while so many were under way.
    pub(crate) fn answered(&self, began: Instant, latency: Duration, live: usize) {
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
        if self.us(began) >= self.moved_us.load(Ordering::Relaxed) {
            self.latencies.add(latency);
        }
    }

    /// A request was too much for the upstream, from when it began until now.
    pub(crate) fn dropped(&self, began: Instant, now: Instant, pressure: Pressure) {
        let began_us = self.us(began);
        if began_us < self.lowered_us.load(Ordering::Relaxed) {
            self.stale_drops.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.dropped_us.fetch_add(self.us(now).saturating_sub(began_us).max(1), Ordering::Relaxed);
        let count = match pressure {
            Pressure::Timeout => &self.timeouts,
            Pressure::Throttling => &self.throttled,
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
        self.us(now) >= self.due_us.load(Ordering::Relaxed)
    }

    pub(crate) fn view(&self) -> LimitView {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, needed: usize) -> Option<Window> {
        let drops = [&self.timeouts, &self.throttled, &self.stale_drops];
        let has_drops = self.has_drops() || self.stale_drops.load(Ordering::Relaxed) > 0;
        if !has_drops && (self.latencies.count() as usize) < needed {
            return None;
        }
        let [timeouts, throttled, stale_drops] = drops.map(|count| count.swap(0, Ordering::Relaxed));
        let dropped_us = self.dropped_us.swap(0, Ordering::Relaxed);
        let peak = self.peak.swap(0, Ordering::Relaxed);
        Some(Window { latencies: self.latencies.take(), timeouts, throttled, stale_drops, dropped_us, peak })
    }

    fn publish(&self, core: &Adaptive, moved: Option<Moved>, now: Instant) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.baseline = core.baseline();
        let Some(moved) = moved else { return };
        (view.limit, view.cause, view.moved) = (moved.to, moved.cause, now);
        self.limit.store(moved.to, Ordering::Release);
        self.moved_us.store(self.us(now), Ordering::Relaxed);
        if moved.to < moved.from {
            self.lowered_us.store(self.us(now), Ordering::Relaxed);
            let causes = LimitCause::REDUCTIONS.iter().position(|cause| *cause == moved.cause);
            if let Some(cause) = causes {
                view.reductions[cause] += 1;
            }
        }
    }
}

/// A step of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) cause: LimitCause,
}

/// The actor's side: the machine, and when it looks next.
#[derive(Debug)]
pub(crate) struct Learner {
    config: AdaptiveConfig,
    concurrent_max: usize,
    core: Adaptive,
    samples: Arc<Samples>,
    due: Instant,
    /// From when on a drop is looked at before that.
    cut_due: Instant,
}

impl Learner {
    /// None where nothing is to be learnt.
    pub(crate) fn of(config: &AdaptiveConfig, concurrent_max: usize, now: Instant) -> Option<Self> {
        config.enabled.then(|| Self::new(config, concurrent_max, now))
    }

    pub(crate) fn new(config: &AdaptiveConfig, concurrent_max: usize, now: Instant) -> Self {
        let core = Adaptive::new(config, concurrent_max);
        let samples = Arc::new(Samples::new(core.limit(), now));
        Self { config: config.clone(), concurrent_max, core, samples, due: now, cut_due: now }
    }

    pub(crate) fn samples(&self) -> &Arc<Samples> {
        &self.samples
    }

    /// Permits that may be out now.
    pub(crate) fn limit(&self) -> usize {
        self.core.limit()
    }

    /// Looks at what came, if it is time and enough has come. The first drop is not waited with: those that come at once come in
    /// numbers.
    pub(crate) fn look(&mut self, now: Instant) -> Option<Moved> {
        let is_cut = now >= self.cut_due && self.samples.has_drops();
        if now < self.due && !is_cut {
            return None;
        }
        self.due = now + self.config.interval;
        self.samples.due_us.store(self.samples.us(self.due), Ordering::Relaxed);
        let window = self.samples.take(self.core.samples_needed())?;
        let from = self.core.limit();
        let cause = self.core.judge(&window, now);
        let moved = cause.map(|cause| Moved { from, to: self.core.limit(), cause });
        if moved.is_some_and(|moved| moved.to < from) {
            self.cut_due = self.due;
        }
        self.samples.publish(&self.core, moved, now);
        moved
    }

    /// Begins anew at the floor; what is under way counts no more.
    pub(crate) fn forget(&mut self, now: Instant) {
        let from = self.core.limit();
        self.core = Adaptive::new(&self.config, self.concurrent_max);
        let moved = Moved { from, to: self.core.limit(), cause: LimitCause::Start };
        self.samples.publish(&self.core, Some(moved), now);
        self.samples.take(0);
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
