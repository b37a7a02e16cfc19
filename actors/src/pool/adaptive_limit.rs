//! How many requests a bucket's upstream serves well at a time, learnt from how it serves them (P7, B3).
//!
//! A machine of its own: windows of samples in, a limit between a floor and `max_concurrent` out. Three signals, the clearest first:
//!
//! - *Drops*: answers that did not come in time, and throttling (429, 503). The limit is lowered by their share, of the requests or of
//!   the time that requests took, whichever is less: refusals that come at once are many and take few places, timeouts the other
//!   way round. It is lowered by half at most, and stays for ten windows' time before it may rise, by ones where it met the drops.
//!   A timeout is no latency: as one it would look stable.
//! - *Latency*: the window's median against the baseline. Up to the middle of the tolerance the limit may rise, up to the tolerance it
//!   stays, beyond it is lowered in proportion, by half at most. What differs below 5 ms is the machine's own.
//! - *Use*: it rises, by its square root, only while more than half of it is in use. From the start, and until anything speaks
//!   against it, it doubles.
//!
//! The baseline is what an answer takes without a queue at the upstream. It begins with the first window, at the floor, follows
//! lower medians, at once if two in a row are far lower, and never drifts up: a limit in full use would drag it
//! along. What raises it is a trial. A queue of ours gets shorter as the limit is lowered, so if the median has not
//! fallen once the limit is half of what it was, or is the floor, then the latency is the upstream's own (other
//! objects, other operations) and becomes the baseline. No window is set aside for measuring.
//!
//! Every step is judged by requests that began after it; this also paces the steps by the upstream's own time. Drops of requests that
//! began before the limit was lowered don't lower it twice, but it doesn't rise either while they come.
//!
//! The ideas are those of Envoy's adaptive concurrency, Netflix's Gradient2 and TCP's congestion control; the tests name what users
//! report of the first two. Deliberately absent: a limit for each endpoint (health is `endpoint.rs`'s), and shares for groups of clients.

use std::time::{Duration, Instant};

use tidegate_config::AdaptiveConfig;

use crate::pool::latency_histogram::LatencyHistogram;

/// Samples that judge a wide limit; a narrow one is judged by as many as it is wide.
const SAMPLES: usize = 20;
const SAMPLES_MIN: usize = 3;
/// Latencies below this are all alike.
const LATENCY_FLOOR_US: f64 = 5_000.0;
/// After a drop the limit does not rise for so many windows' time.
const RISE_DELAY_WINDOWS: u32 = 10;
/// A lower median moves the baseline by one part in so many.
const BASELINE_INERTIA: f64 = 8.0;
/// The most that one step takes away.
const REDUCTION_MAX: f64 = 0.5;
/// A trial whose median is above this share of what it was has not helped.
const HELPED: f64 = 0.8;

/// Why the limit is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitCause {
    /// Nothing has been learnt yet.
    Start,
    /// It was used, and the upstream served well.
    Use,
    /// Answers did not come in time.
    Timeouts,
    /// The upstream said that it was too much.
    Throttling,
    /// Answers took longer.
    Latency,
}

impl LimitCause {
    /// What lowers a limit.
    pub const REDUCTIONS: [Self; 3] = [Self::Timeouts, Self::Throttling, Self::Latency];

    /// The word in status, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Use => "use",
            Self::Timeouts => "timeouts",
            Self::Throttling => "throttling",
            Self::Latency => "latency",
        }
    }
}

/// What came since the last window.
#[derive(Debug, Clone, Default)]
pub(crate) struct SampleWindow {
    /// Of answers to requests that began after the limit's last move.
    pub(crate) latencies: LatencyHistogram,
    /// Of requests that began after the limit was last lowered.
    pub(crate) timeouts: u32,
    pub(crate) throttled: u32,
    /// Drops of requests that began before.
    pub(crate) stale_drops: u32,
    /// What the drops took, those of before left out.
    pub(crate) dropped_us: u64,
    /// Most requests under way.
    pub(crate) peak: usize,
}

/// Lowering the limit, to see whether that helps.
#[derive(Debug, Clone, Copy)]
struct LimitReduction {
    limit: f64,
    median_us: f64,
}

/// The limit and what it was learnt from.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    min: f64,
    max: f64,
    tolerance: f64,
    rise_delay: Duration,
    limit: f64,
    baseline_us: Option<f64>,
    last_median_us: f64,
    is_starting: bool,
    last_drop: Option<Instant>,
    /// The limit that last met drops.
    ceiling: Option<f64>,
    reduction: Option<LimitReduction>,
}

impl AdaptiveLimit {
    /// Begins at the floor: what is measured there is the least loaded that it can be.
    pub(crate) fn new(config: &AdaptiveConfig, concurrent_max: usize) -> Self {
        let max = concurrent_max.max(1) as f64;
        let min = (config.min.get() as f64).min(max);
        Self {
            min,
            max,
            tolerance: config.latency_tolerance,
            rise_delay: config.interval * RISE_DELAY_WINDOWS,
            limit: min,
            baseline_us: None,
            last_median_us: 0.0,
            is_starting: true,
            last_drop: None,
            ceiling: None,
            reduction: None,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    pub(crate) fn baseline(&self) -> Option<Duration> {
        self.baseline_us.map(|us| Duration::from_secs_f64(us / 1e6))
    }

    /// Samples that a window must have to be judged. A drop is judged at once.
    pub(crate) fn samples_needed(&self) -> usize {
        self.limit().clamp(SAMPLES_MIN, SAMPLES)
    }

    /// Judges a window. Returns why the limit has moved, if it has.
    pub(crate) fn evaluate(&mut self, window: &SampleWindow, now: Instant) -> Option<LimitCause> {
        let drops = window.timeouts.saturating_add(window.throttled);
        if drops > 0 || window.stale_drops > 0 {
            // What is measured between drops is no baseline either.
            self.last_drop = Some(now);
            self.is_starting = false;
            self.reduction = None;
        }
        if drops > 0 {
            return self.lower_for_drops(window, drops);
        }
        if window.stale_drops > 0 {
            return None;
        }
        self.evaluate_latency(window, now)
    }

    fn lower_for_drops(&mut self, window: &SampleWindow, drops: u32) -> Option<LimitCause> {
        let cause =
            if window.timeouts >= window.throttled { LimitCause::Timeouts } else { LimitCause::Throttling };
        // One drop among a handful of samples is no half.
        let samples = window.latencies.count().saturating_add(drops);
        let samples = f64::from(samples).max(self.samples_needed() as f64 / 2.0);
        let time_us = window.latencies.sum_us() + window.dropped_us as f64;
        let share =
            (f64::from(drops) / samples).min(window.dropped_us as f64 / time_us.max(1.0)).min(REDUCTION_MAX);
        self.ceiling = Some(self.limit);
        self.lower_to((self.limit * (1.0 - share)).min(self.limit - 1.0), cause)
    }

    fn evaluate_latency(&mut self, window: &SampleWindow, now: Instant) -> Option<LimitCause> {
        let median_us = window.latencies.median_us()?;
        let baseline_us = self.lower_baseline(median_us);
        // What is far from using the limit says nothing about it.
        if window.peak as f64 <= self.limit / 2.0 {
            return None;
        }
        let growth = median_us / baseline_us.max(LATENCY_FLOOR_US);
        if growth > self.tolerance {
            return self.lower_for_latency(median_us, growth);
        }
        self.reduction = None;
        if growth > f64::midpoint(1.0, self.tolerance) {
            self.is_starting = false;
            return None;
        }
        if self.last_drop.is_some_and(|dropped| now.saturating_duration_since(dropped) < self.rise_delay) {
            return None;
        }
        let before = self.limit();
        self.limit = (self.limit + self.step()).min(self.max);
        if self.ceiling.is_some_and(|ceiling| self.limit > ceiling) {
            self.ceiling = None;
        }
        (self.limit() > before).then_some(LimitCause::Use)
    }

    fn lower_baseline(&mut self, median_us: f64) -> f64 {
        let two = median_us.max(std::mem::replace(&mut self.last_median_us, median_us));
        let baseline_us = match self.baseline_us {
            None => median_us,
            Some(baseline_us) if two * self.tolerance < baseline_us => two,
            Some(baseline_us) => baseline_us + (median_us - baseline_us).min(0.0) / BASELINE_INERTIA,
        };
        self.baseline_us = Some(baseline_us);
        baseline_us
    }

    /// How much the limit rises.
    fn step(&self) -> f64 {
        if self.is_starting {
            return self.limit;
        }
        let step = self.limit.sqrt().max(1.0);
        self.ceiling.map_or(step, |ceiling| step.min(ceiling - self.limit - 1.0).max(1.0))
    }

    fn lower_for_latency(&mut self, median_us: f64, growth: f64) -> Option<LimitCause> {
        self.is_starting = false;
        let trial = *self.reduction.get_or_insert(LimitReduction { limit: self.limit, median_us });
        let is_floor = self.limit() == self.min as usize;
        if is_floor || self.limit <= trial.limit / 2.0 {
            if is_floor || median_us > trial.median_us * HELPED {
                self.baseline_us = Some(median_us);
                self.reduction = None;
                return None;
            }
            self.reduction = Some(LimitReduction { limit: self.limit, median_us });
        }
        let cut = (self.tolerance / growth).max(1.0 - REDUCTION_MAX);
        self.lower_to((self.limit * cut).min(self.limit - 1.0), LimitCause::Latency)
    }

    fn lower_to(&mut self, limit: f64, cause: LimitCause) -> Option<LimitCause> {
        let before = self.limit();
        self.limit = limit.max(self.min);
        (self.limit() < before).then_some(cause)
    }
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
