//! Why the request path gets no permit.

use std::time::Duration;

use crate::mailbox::AskError;

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolRejection {
    /// The queue is full; with `max_queued = 0`, the gate is full.
    QueueFull {
        /// Waiters.
        queued: usize,
        /// Permits out.
        in_flight: usize,
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
    /// No permit was released within the queue's timeout or the request's deadline.
    QueueTimeout {
        /// Time in the queue.
        waited: Duration,
        /// The longest time that the request could wait.
        limit: Duration,
        /// Whether that was the time until its deadline, and not the queue's timeout.
        is_deadline: bool,
        /// Expected time until the waiters are served, at least `waited`.
        retry_after: Duration,
    },
    /// The upstream throttles or refuses all of the bucket's credentials for longer than a request waits.
    NoCredential {
        /// Time until the first credential can be used again.
        retry_after: Duration,
        /// Whether the upstream refused that credential.
        is_refused: bool,
    },
    /// The queue was full, and the waiter was displaced by one of a higher class.
    Displaced {
        /// Expected time until the waiters are served; zero if unknown.
        retry_after: Duration,
    },
    /// The waiter was shed: it waited too long in an overloaded queue, which serves the newest first.
    Overload {
        /// Time in the queue.
        waited: Duration,
        /// Expected time until the waiters are served; zero if unknown.
        retry_after: Duration,
    },
    /// An operator drains the bucket.
    BucketDraining {
        /// Time until the drain ends, if it has an end.
        left: Option<Duration>,
    },
    /// An operator drains all endpoints of the bucket.
    EndpointsDraining {
        /// Time until the first drain ends, if any has an end.
        left: Option<Duration>,
    },
    /// The actor did not answer.
    Unavailable(AskError),
}
