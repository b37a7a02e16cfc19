//! Whether a value that is renewed in the background can be renewed: credentials, token keys, certificates.
//!
//! The task that renews it publishes each outcome; the status reads the current failure.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Renewals that have failed since the last success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailingRefresh {
    /// The time of the first failure.
    pub(crate) since: Instant,
    pub(crate) failures: u32,
    /// The last error.
    pub(crate) error: String,
    /// When it is tried again; none if something else requests it.
    pub(crate) retry_at: Option<Instant>,
}

/// The published outcome of the last renewal.
#[derive(Debug, Default)]
pub(crate) struct RefreshHealth {
    failing: Mutex<Option<FailingRefresh>>,
}

impl RefreshHealth {
    pub(crate) fn record_success(&self) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn record_failure(&self, error: String, pause: Option<Duration>, now: Instant) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, failures) = failing.as_ref().map_or((now, 0), |known| (known.since, known.failures));
        let retry_at = pause.map(|pause| now + pause);
        *failing = Some(FailingRefresh { since, failures: failures.saturating_add(1), error, retry_at });
    }

    /// None after a success, and before the first renewal.
    pub(crate) fn current(&self) -> Option<FailingRefresh> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// X10: failures keep their start and their number until a success
    #[test]
    fn failures_last_until_a_success() {
        let (health, start) = (RefreshHealth::default(), clock::now());
        assert_eq!(health.current(), None);
        let pause = Duration::from_secs(2);
        health.record_failure("one".to_owned(), Some(pause), start);
        health.record_failure("two".to_owned(), None, start + pause);
        let expected = FailingRefresh { since: start, failures: 2, error: "two".to_owned(), retry_at: None };
        assert_eq!(health.current(), Some(expected));
        health.record_success();
        assert_eq!(health.current(), None);
        health.record_failure("three".to_owned(), Some(pause), start + pause);
        assert_eq!(
            health.current().map(|failing| (failing.since, failing.failures)),
            Some((start + pause, 1))
        );
    }
}
