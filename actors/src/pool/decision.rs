//! Decisions of the pool on a request for a permit, and the reasons to refuse it or to end its wait.

use std::time::{Duration, Instant};

/// Why a wait ended without a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitRejection {
    pub(crate) cause: WaitRejectionCause,
    /// Expected time until the waiters are served; zero if unknown.
    pub(crate) retry_after: Duration,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitRejectionCause {
    /// The queue was full, and a request of a higher class came.
    Displaced,
    /// The queue is overloaded, and the wait was too long.
    Overload,
    /// All endpoints drain.
    Draining,
}

/// Decision on a request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcquireDecision {
    /// The gate has room and no request waits.
    Grant,
    /// Wait for a released permit.
    Queue,
    /// Refuse at once.
    Refuse(AcquireRefusal),
}

/// Why a request cannot wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcquireRefusal {
    /// The queue is full.
    QueueFull {
        queued: usize,
        /// Expected time until the waiters are served; zero if unknown.
        retry_after: Duration,
    },
    /// The expected wait is longer than the request can wait.
    QueueTooLong {
        /// Expected wait.
        expected: Duration,
        /// Longest time that the request could wait.
        left: Duration,
        /// Whether that is the time until its deadline, and not the queue's timeout.
        is_deadline: bool,
    },
    /// All credentials are out of rotation for longer than the request can wait.
    NoCredential {
        /// When the first credential returns.
        until: Instant,
        /// Whether the upstream refused that credential.
        is_refused: bool,
    },
    /// All endpoints drain.
    Draining {
        /// When the first drain ends, if any has an end.
        until: Option<Instant>,
    },
}

/// No other credential has capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoCredential;

/// Why a permit cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReassignRefusal {
    /// No other credential has capacity.
    NoCredential,
    /// All endpoints drain.
    Draining,
}

impl From<NoCredential> for ReassignRefusal {
    fn from(_: NoCredential) -> Self {
        Self::NoCredential
    }
}
