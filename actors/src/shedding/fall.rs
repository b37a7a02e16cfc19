//! How the cursor falls to 0 once nothing needs it.
//!
//! A PI controller falls with the error, so a high cursor would refuse for seconds after the overload. Once the wait and the
//! pressure are clearly below their targets for a quarter of the time, the cursor has an upper limit that falls to 0 at the
//! end of the time. Only then the cursor becomes 0: noise at the target moves it between a thousandth and more, and it does
//! not flap between 0 and more.

use std::time::Duration;

/// The part of the time after which the limit begins to fall.
const DELAY: f64 = 0.25;
/// The lowest cursor above 0.
const CURSOR_MIN: f64 = 0.001;
/// The longest time to the next update. After a crash of the owner the last period is longer than the next.
const NEXT_MAX: Duration = Duration::from_millis(500);
/// The longest time of a fall, and the time of a queue without its target.
const PROCESS_TIME_MAX: Duration = Duration::from_secs(6);
const QUEUE_TIME: Duration = Duration::from_secs(2);
/// The errors up to which the overload counts as over: at three quarters of the target, and for a queue at half of it. A
/// queue is long, and the controller regulates its length below the target too.
const PROCESS_CALM: f64 = -0.25;
const QUEUE_CALM: f64 = -0.5;

/// When a cursor is 0 after an overload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FallRule {
    time: Duration,
    /// The error up to which the overload counts as over.
    calm: f64,
    /// The error above which a cursor of 0 rises.
    pub(crate) start: f64,
}

impl FallRule {
    pub(crate) fn of_process(dwell: Duration) -> Self {
        Self { time: dwell.min(PROCESS_TIME_MAX), calm: PROCESS_CALM, start: 0.0 }
    }

    pub(crate) fn of_queue(target: Duration) -> Self {
        Self { time: QUEUE_TIME + target, calm: QUEUE_CALM, start: QUEUE_CALM }
    }
}

/// The time since the overload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fall {
    /// Time since the last update with an error above that of the rule, and the cursor when the delay was over.
    calm: Option<Duration>,
    from: f64,
    /// Time since the last update with an error above 0.
    below: Option<Duration>,
}

impl Fall {
    /// Limits the movement from `before` to `wanted` in one update.
    pub(crate) fn limit(
        &mut self,
        rule: FallRule,
        (before, wanted): (f64, f64),
        error: f64,
        period: Duration,
    ) -> f64 {
        // The time before the first update is unknown.
        let longer = |time: Option<Duration>| time.map_or(Duration::ZERO, |time| time + period);
        let calm = if error <= rule.calm { longer(self.calm) } else { Duration::ZERO };
        let below = if error <= 0.0 { longer(self.below) } else { Duration::ZERO };
        (self.calm, self.below) = (Some(calm), Some(below));
        if before <= 0.0 {
            return if error > rule.start { wanted } else { 0.0 };
        }
        // The next update may be after the end of the time.
        let next = |time: Duration| time + period.min(NEXT_MAX);
        let (is_calm, delay) = (error <= rule.calm, rule.time.mul_f64(DELAY));
        if is_calm && next(calm) >= rule.time {
            return 0.0;
        }
        let mut limited = wanted;
        if calm >= delay && is_calm {
            let left = rule.time.saturating_sub(next(calm)).as_secs_f64();
            limited = limited.min(self.from * left / rule.time.saturating_sub(delay).as_secs_f64());
        } else {
            self.from = wanted.max(CURSOR_MIN);
        }
        if error <= 0.0 && next(below) >= rule.time { limited } else { limited.max(CURSOR_MIN) }
    }
}
