//! The cursor: how much traffic is cut from the bottom of the order. A PI controller of the wait.
//!
//! 0.0 cuts no request, 1.4 cuts all of class low and 40 % of class normal. The error is `(wait - target) / target`, or the
//! error of the resource pressure if that is greater, within -1 and 1. The controller has the velocity form: its output
//! is its only integrator and is clamped, so it cannot wind up. The proportional gain follows the target: a queue with a
//! short target fills within one period, and a high gain would make it oscillate.

use std::time::Duration;

/// Number of priority classes, and so the upper end of the cursor.
pub(crate) const CLASSES: usize = 3;
/// The highest cursor. A part of the highest class is always admitted, so that a recovery can be measured.
pub(crate) const CURSOR_MAX: f64 = CLASSES as f64 - 0.05;
/// Movement per second at an error of 1. Without a wait the cursor falls from its maximum to 0 in six seconds.
const INTEGRAL_GAIN: f64 = 0.5;
/// Movement at a step of the error by 1, for a target that is long compared with the period.
const PROPORTIONAL_GAIN: f64 = 0.5;
/// The largest movement in one update.
const STEP_MAX: f64 = 0.25;
/// A longer period counts as this one: nothing was measured meanwhile.
const PERIOD_MAX: Duration = Duration::from_millis(500);

/// What moved the cursor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CursorInput {
    /// The measured wait; none if nothing waits or nothing was measured.
    pub(crate) wait: Option<Duration>,
    /// The error of the resource pressure: 0 at the threshold, 1 where resources are exhausted; none if it is unknown.
    pub(crate) pressure: Option<f64>,
}

/// The controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    target: Duration,
    value: f64,
    /// The error of the last update.
    error: f64,
}

impl Cursor {
    /// A controller at this value.
    pub(crate) fn new(target: Duration, value: f64) -> Self {
        Self { target, value: value.clamp(0.0, CURSOR_MAX), error: -1.0 }
    }

    #[cfg(test)]
    fn value(&self) -> f64 {
        self.value
    }

    /// Whether the pressure is worse than the wait.
    pub(crate) fn is_by_pressure(&self, input: CursorInput) -> bool {
        input.pressure.is_some_and(|pressure| pressure > self.wait_error(input.wait))
    }

    /// Moves the cursor after `period` with this input.
    pub(crate) fn update(&mut self, input: CursorInput, period: Duration) -> f64 {
        let period = period.min(PERIOD_MAX).as_secs_f64();
        let error = self.wait_error(input.wait).max(input.pressure.unwrap_or(-1.0)).clamp(-1.0, 1.0);
        let target = self.target.as_secs_f64();
        let gain = PROPORTIONAL_GAIN * target / (2.0 * period + target);
        let step = gain * (error - self.error) + INTEGRAL_GAIN * error * period;
        self.error = error;
        self.value = (self.value + step.clamp(-STEP_MAX, STEP_MAX)).clamp(0.0, CURSOR_MAX);
        self.value
    }

    fn wait_error(&self, wait: Option<Duration>) -> f64 {
        let target = self.target.as_secs_f64();
        wait.map_or(-1.0, |wait| (wait.as_secs_f64() - target) / target)
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
