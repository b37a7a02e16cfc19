//! Whether a step is due with a sample of the monitor.

use std::time::{Duration, Instant};

/// A sample may come a little early: the samples have their own clock.
const EARLY: Duration = Duration::from_millis(20);

/// Whether so much time has passed since a step, to the accuracy of the samples.
pub(crate) fn has_passed(every: Duration, since: Option<Instant>, now: Instant) -> bool {
    since.is_none_or(|since| now.saturating_duration_since(since) + EARLY >= every)
}
