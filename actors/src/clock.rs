//! The one source of time.
//!
//! Everything below the shells takes `now` as an argument; only shells and handles call this.
//! Going through tokio's clock lets tests pause and advance it. Wall-clock time is for
//! log lines, signatures and HTTP dates: no policy decision depends on it.

use std::time::{Instant, SystemTime};

/// The current monotonic time.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The current wall-clock time.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
