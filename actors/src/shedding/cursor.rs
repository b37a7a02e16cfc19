//! The cursor: how much traffic is cut from the bottom of the order. A PI controller of the wait.
//!
//! 0.0 cuts no request, 1.4 cuts all of class low and 40 % of class normal. The error is `(wait - target) / target`, or the
//! error of the resource pressure if that is greater, within -1 and 1. The controller has the velocity form: its output
//! is its only integrator, is clamped, and skips the classes without traffic, so it cannot wind up. The proportional gain
//! follows the target: a queue with a short target fills within one period, and a high gain would make it oscillate. A
//! pressure below its threshold raises no cursor of 0.
//!
//! The start of an overload in a queue has a feedforward (`onset.rs`). The fall has a time limit (`fall.rs`).

use std::time::Duration;

use crate::shedding::class_ladder::ClassLadder;
use crate::shedding::fall::{Fall, FallRule};
use crate::shedding::onset::Onset;
use crate::shedding::published::CursorCause;

/// Number of priority classes, and so the upper end of the cursor.
pub(crate) const CLASSES: usize = 3;
/// The part of the highest class that is always admitted, so that a recovery can be measured.
pub(crate) const ADMITTED_MIN: f64 = 0.05;
/// The highest cursor.
pub(crate) const CURSOR_MAX: f64 = CLASSES as f64 - ADMITTED_MIN;
/// Movement per second at an error of 1.
const INTEGRAL_GAIN: f64 = 0.5;
/// Movement at a step of the error by 1, for a target that is long compared with the period.
const PROPORTIONAL_GAIN: f64 = 0.5;
/// The largest movement of the controller in one update.
const STEP_MAX: f64 = 0.25;
/// A longer period counts as this one: nothing was measured meanwhile.
const PERIOD_MAX: Duration = Duration::from_millis(500);

/// What moved the cursor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CursorInput {
    /// The wait; none if nothing waits, nothing is known, or it does not count.
    pub(crate) wait: Option<Duration>,
    /// The expected wait of a new request in a queue, also if it does not count; none while it is unknown.
    pub(crate) expected: Option<Duration>,
    /// The error of the resource pressure: 0 at the threshold, 1 where resources are exhausted; none if it is unknown.
    pub(crate) pressure: Option<f64>,
}

/// What the cursor follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CursorTarget {
    /// The acceptable wait.
    pub(crate) wait: Duration,
    pub(crate) fall: FallRule,
    /// The wait is that of one queue, so its growth is the excess of the arrivals.
    pub(crate) is_queue: bool,
}

impl CursorTarget {
    /// The wait inside the process. The cursor is 0 within the dwell time of the levels.
    pub(crate) fn of_process(wait: Duration, dwell: Duration) -> Self {
        Self { wait, fall: FallRule::of_process(dwell), is_queue: false }
    }

    /// The wait in a queue.
    pub(crate) fn of_queue(wait: Duration) -> Self {
        Self { wait, fall: FallRule::of_queue(wait), is_queue: true }
    }

    /// The error of an input: 0 at the target, -1 without any wait, not limited above.
    pub(crate) fn error(&self, input: CursorInput) -> f64 {
        self.wait_error(input.wait).max(input.pressure.unwrap_or(-1.0)).max(-1.0)
    }

    /// What this wait crosses: the target, or the wait above which a cursor of 0 rises.
    pub(crate) fn cause(&self, wait: Duration) -> Option<CursorCause> {
        if wait > self.wait {
            return Some(CursorCause::Wait(wait));
        }
        (wait > self.start()).then_some(CursorCause::EarlyWait(wait))
    }

    /// The threshold of the wait that this cause crossed.
    pub(crate) fn threshold(&self, cause: CursorCause) -> Duration {
        if matches!(cause, CursorCause::EarlyWait(_)) { self.start() } else { self.wait }
    }

    /// The wait above which a cursor of 0 rises.
    fn start(&self) -> Duration {
        self.wait.mul_f64(1.0 + self.fall.start)
    }

    pub(crate) fn wait_error(&self, wait: Option<Duration>) -> f64 {
        let target = self.wait.as_secs_f64();
        wait.map_or(-1.0, |wait| (wait.as_secs_f64() - target) / target)
    }
}

/// The controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    target: CursorTarget,
    value: f64,
    /// The error of the last update.
    error: f64,
    /// The error of the last update was measured by another target.
    is_retargeted: bool,
    fall: Fall,
    onset: Onset,
}

impl Cursor {
    /// A controller at this value.
    pub(crate) fn new(target: CursorTarget, value: f64) -> Self {
        let value = value.clamp(0.0, CURSOR_MAX);
        let (fall, onset) = (Fall::default(), Onset::default());
        Self { target, value, error: -1.0, is_retargeted: false, fall, onset }
    }

    /// Follows another target from the present value on.
    pub(crate) fn set_target(&mut self, target: CursorTarget) {
        self.is_retargeted |= self.target != target;
        self.target = target;
    }

    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// Starts with a queue that was empty until now.
    pub(crate) fn begin(&mut self) {
        self.onset = Onset::EMPTY_QUEUE;
    }

    /// Moves the cursor after `period` with this input. `ladder` has the classes with traffic.
    pub(crate) fn update(&mut self, input: CursorInput, period: Duration, ladder: &ClassLadder) -> f64 {
        let seconds = period.min(PERIOD_MAX).as_secs_f64();
        let pressure = input.pressure.filter(|pressure| self.value > 0.0 || *pressure > 0.0);
        let error = self.target.error(CursorInput { pressure, ..input }).min(1.0);
        let target = self.target.wait.as_secs_f64();
        // Another target is no step of the error.
        let last = if std::mem::take(&mut self.is_retargeted) { error } else { self.error };
        let gain = PROPORTIONAL_GAIN * target / (2.0 * seconds + target);
        let step = gain * (error - last) + INTEGRAL_GAIN * error * seconds;
        // A pressure that begins to count is no step of the error.
        self.error = self.target.error(input).min(1.0);
        let before = ladder.steps(self.value);
        let mut steps = (before + step.clamp(-STEP_MAX, STEP_MAX)).clamp(0.0, ladder.steps_max());
        if self.target.is_queue {
            let excess = self.onset.excess(input.expected, error, self.value <= 0.0, seconds);
            steps = steps.max(ladder.steps_of_traffic(excess)).min(ladder.steps_max());
        }
        steps = self.fall.limit(self.target.fall, (before, steps), error, period);
        self.value = ladder.cursor(steps);
        self.value
    }

    /// Lowers the cursor to this value at most.
    pub(crate) fn lower_to(&mut self, most: f64) -> f64 {
        self.value = self.value.min(most);
        self.value
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
