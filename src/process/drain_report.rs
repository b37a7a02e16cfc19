//! How far the drain of the process is, published for the status and its streams (G4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_actors::clock;
use tokio::sync::{Notify, watch};

use super::DrainPhase;
use super::drain_progress::DrainProgress;
use crate::degradation::cause::Moment;

/// Why the process drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainCause {
    /// SIGTERM or SIGINT.
    Signal,
    /// A request to the admin listener.
    Request,
    /// A worker thread has ended by a defect.
    ThreadEnded,
    /// The successor of an upgrade serves.
    HandedOver,
}

impl DrainCause {
    /// Its name in the status document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Request => "request",
            Self::ThreadEnded => "thread_ended",
            Self::HandedOver => "handed_over",
        }
    }
}

/// How far a drain is.
#[derive(Debug, Clone)]
pub(crate) struct DrainReport {
    pub(crate) cause: DrainCause,
    /// When it began.
    pub(crate) began: Moment,
    /// When `server.drain_timeout` is over.
    pub(crate) deadline: Instant,
    pub(crate) phase: DrainPhase,
    pub(crate) progress: DrainProgress,
    /// The requests and answers that were cut off, once the drain has ended.
    pub(crate) cut_off: Option<usize>,
}

impl DrainReport {
    /// The time that requests in flight still have.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }
}

/// The last report; none before a drain begins.
pub(crate) struct DrainReports(watch::Sender<Option<Arc<DrainReport>>>);

impl Default for DrainReports {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl DrainReports {
    pub(crate) fn publish(&self, report: DrainReport) {
        self.0.send_replace(Some(Arc::new(report)));
    }

    pub(crate) fn last(&self) -> Option<Arc<DrainReport>> {
        self.0.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<DrainReport>>> {
        self.0.subscribe()
    }

    /// Waits at most this time for the first report.
    pub(crate) async fn first(&self, wait_max: Duration) -> Option<Arc<DrainReport>> {
        let mut reports = self.subscribe();
        let deadline = clock::now() + wait_max;
        let first = tokio::time::timeout_at(deadline.into(), reports.wait_for(Option::is_some));
        first.await.ok()?.ok()?.clone()
    }
}

/// A request to drain the process, from the admin listener.
#[derive(Default)]
pub(crate) struct DrainRequests(Notify);

impl DrainRequests {
    /// Requests a drain. A process that drains already goes on.
    pub(crate) fn request(&self) {
        self.0.notify_one();
    }

    /// Waits for a request.
    pub(crate) async fn requested(&self) {
        self.0.notified().await;
    }
}
