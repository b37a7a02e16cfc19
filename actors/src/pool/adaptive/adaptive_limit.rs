//! Learns how many concurrent requests a bucket's upstream serves well (P7, B3): windows of samples in, a limit between
//! a floor and `max_concurrent` out.
//!
//! Signals, the clearest first:
//! - *Drops* (timeouts, and throttling with 429 or 503) lower the limit.
//! - *Latency*: the window's median against a baseline raises, keeps or lowers it.
//! - *Use*: the limit rises only while more than half of it is in use.
//!
//! Every step is judged by requests that began after it. Drops of requests that began before the limit was lowered do
//! not lower it again, but prevent a rise. The rules, the trial that raises the baseline, and the sources (Envoy's
//! adaptive concurrency, Netflix's Gradient2, TCP) are in `docs/design/adaptive-limit.md`.
//!
//! It keeps no limit per endpoint (`load_balancer/endpoint.rs` owns health) and no shares for groups of clients.

use std::time::{Duration, Instant};

use tidegate_config::AdaptiveConfig;

use crate::pool::adaptive::latency_histogram::LatencyHistogram;

/// Samples that a window needs at a wide limit; at a narrow one, as many as the limit.
const SAMPLES: usize = 20;
const SAMPLES_MIN: usize = 3;
/// Latencies below this count as equal.
const LATENCY_FLOOR_US: f64 = 5_000.0;
/// After a drop the limit does not rise for this many windows' time.
const RISE_DELAY_WINDOWS: u32 = 10;
/// A lower median moves the baseline by this fraction (1/n).
const BASELINE_INERTIA: f64 = 8.0;
/// Largest share that one step removes.
const REDUCTION_MAX: f64 = 0.5;
/// A trial has not helped if its median is above this share of the previous one.
const HELPED: f64 = 0.8;

/// Cause of the last change of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitCause {
    /// The initial limit.
    Start,
    /// The limit was in use, and the upstream served well.
    Use,
    /// Answers timed out.
    Timeouts,
    /// The upstream throttled.
    Throttling,
    /// The latency rose.
    Latency,
}

impl LimitCause {
    /// The causes that lower a limit.
    pub const REDUCTIONS: [Self; 3] = [Self::Timeouts, Self::Throttling, Self::Latency];

    /// Value in status, logs and metrics.
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

/// Samples since the last evaluated window.
#[derive(Debug, Clone, Default)]
pub(crate) struct SampleWindow {
    /// Latencies of requests that began after the last change of the limit.
    pub(crate) latencies: LatencyHistogram,
    /// Timeouts of requests that began after the limit was last lowered.
    pub(crate) timeouts: u32,
    pub(crate) throttled: u32,
    /// Drops of requests that began before the limit was last lowered.
    pub(crate) stale_drops: u32,
    /// Total time of the drops in microseconds, without stale ones.
    pub(crate) dropped_us: u64,
    /// Largest number of requests in flight.
    pub(crate) peak: usize,
}

/// A trial: the limit is lowered to see whether the latency falls.
#[derive(Debug, Clone, Copy)]
struct LimitReduction {
    limit: f64,
    median_us: f64,
}

/// The limit and the state it is learnt from.
#[derive(Debug, Clone)]
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
    /// The limit at the last drops.
    ceiling: Option<f64>,
    reduction: Option<LimitReduction>,
}

impl AdaptiveLimit {
    /// Begins at the floor, so that the baseline is measured at the lowest load.
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

    /// The limit of a pool that replaces this one's: what is learnt stays, within the new bounds.
    pub(crate) fn successor(&self, config: &AdaptiveConfig, concurrent_max: usize) -> Self {
        let Self { min, max, tolerance, rise_delay, .. } = Self::new(config, concurrent_max);
        let limit = self.limit.clamp(min, max);
        let reduction = self.reduction.filter(|_| limit >= self.limit);
        Self { min, max, tolerance, rise_delay, limit, reduction, ..self.clone() }
    }

    /// Goes on from a published limit and baseline, within the bounds.
    pub(crate) fn resumed(self, limit: usize, baseline: Option<Duration>) -> Self {
        let limit = (limit as f64).clamp(self.min, self.max);
        let baseline_us = baseline.map(|baseline| baseline.as_secs_f64() * 1e6);
        Self { limit, baseline_us, is_starting: false, ..self }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    pub(crate) fn baseline(&self) -> Option<Duration> {
        self.baseline_us.map(|us| Duration::from_secs_f64(us / 1e6))
    }

    /// Samples that a window needs for an evaluation. A drop is evaluated at once.
    pub(crate) fn samples_needed(&self) -> usize {
        self.limit().clamp(SAMPLES_MIN, SAMPLES)
    }

    /// Evaluates a window. Returns the cause if the limit changed.
    pub(crate) fn evaluate(&mut self, window: &SampleWindow, now: Instant) -> Option<LimitCause> {
        let drops = window.timeouts.saturating_add(window.throttled);
        if drops > 0 || window.stale_drops > 0 {
            // A window between drops gives no baseline either.
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
        // One drop among few samples does not count as a half.
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
        // A median measured far below the limit gives no information about the limit.
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

    /// Amount by which the limit rises.
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
#[path = "adaptive_limit_tests.rs"]
mod tests;
