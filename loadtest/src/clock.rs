//! The one place where this crate reads time.
//!
//! Instants come from tokio's clock, so that timers and measurements agree; nothing here needs the time of day.

use std::time::{Duration, Instant};

/// The present moment.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A duration in milliseconds, the unit of every reported latency.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
