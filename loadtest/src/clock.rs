//! The only module of this crate that reads the clock.
//!
//! Instants are those of tokio's clock, so that timers and measurements agree. The crate does not need the time of day.

use std::time::{Duration, Instant};

/// The current time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A duration in milliseconds, the unit of every reported latency.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
