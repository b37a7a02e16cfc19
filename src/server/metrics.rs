//! The acceptor's metrics, and the list of paused listeners.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::pause::PauseCause;

/// A listener, the cause of its pause, and its start.
type PausedListener = (&'static str, &'static str, Instant);

/// The number of failed accepts by cause, and the paused listeners.
#[derive(Clone)]
pub(crate) struct AcceptMetrics {
    failures: [IntCounter; PauseCause::ALL.len()],
    /// The listeners in an episode of pauses.
    waiting: Arc<Mutex<Vec<PausedListener>>>,
}

impl AcceptMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "accept_failures_total",
            "failed accepts, and the number of times that a listener became full",
        );
        let family = IntCounterVec::new(opts, &["cause"])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self {
            failures: PauseCause::ALL.map(|cause| family.with_label_values(&[cause.as_str()])),
            waiting: Arc::default(),
        })
    }

    /// The listeners that do not accept at the moment.
    pub(crate) fn paused_listeners(&self) -> Vec<PausedListener> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn episode_began(&self, listener: &'static str, cause: PauseCause, now: Instant) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((listener, cause.as_str(), now));
    }

    pub(super) fn episode_ended(&self, listener: &'static str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(each, ..)| *each != listener);
    }

    pub(super) fn count_failure(&self, cause: PauseCause) {
        let index = PauseCause::ALL.iter().position(|each| *each == cause);
        if let Some(counter) = index.and_then(|index| self.failures.get(index)) {
            counter.inc();
        }
    }
}
