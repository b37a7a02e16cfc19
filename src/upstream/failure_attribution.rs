//! Whose failure a failed call is: one endpoint's, or the whole bucket's.
//!
//! The pool is told of every failure, and leaves out endpoints that fail. The circuit is told only of those that no other endpoint
//! could have made good: one bad endpoint of three must not close the bucket to everybody (P5), and when all are bad
//! somebody has to (B1). Timeouts and throttling are also told as too much load, which a limit that is learnt takes its lesson from (P7).

use std::time::{Duration, Instant};

use tidegate_actors::{EndpointId, FailureCause, FailureKind, Outcome, OverloadSignal, clock};

use crate::router::Bucket;
use crate::upstream::UpstreamRejection;
use crate::upstream::outcome::is_overload;

/// Tells the pool of a failed call that began then, and returns what the circuit is to know of it. Anything but a failure passes
/// as it is.
pub(super) fn attribute(bucket: &Bucket, endpoint: EndpointId, outcome: Outcome, began: Instant) -> Outcome {
    match outcome {
        Outcome::Failure { cause, .. } => {
            if matches!(cause, FailureCause::Timeout | FailureCause::ConnectTimeout) {
                bucket.pool.report_overload(OverloadSignal::Timeout, began);
            }
            let is_bucket_failure =
                bucket.pool.report_failure(endpoint, failure_kind(cause), began, clock::now());
            if is_bucket_failure { outcome } else { Outcome::Neutral }
        }
        other => other,
    }
}

/// An attempt up to the head of its answer.
pub(super) struct FinishedAttempt {
    pub(super) endpoint: EndpointId,
    pub(super) began: Instant,
    /// How long the upstream took once it had everything it needed.
    pub(super) waited: Duration,
}

impl FinishedAttempt {
    /// Tells the pool how it went, by its status if there is one, and returns what the circuit is to know of it.
    pub(super) fn report_outcome(
        self,
        bucket: &Bucket,
        outcome: Outcome,
        result: Result<u16, &UpstreamRejection>,
    ) -> Outcome {
        let Self { endpoint, began, waited } = self;
        if result.is_ok_and(is_overload) {
            bucket.pool.report_overload(OverloadSignal::Throttling, began);
        }
        match (outcome, result) {
            // Failures are no measure: an endpoint that fails at once would be preferred for its speed.
            (Outcome::Success, Ok(_)) if waited > Duration::ZERO => {
                bucket.pool.record_response(endpoint, waited, began);
                outcome
            }
            _ => attribute(bucket, endpoint, outcome, began),
        }
    }
}

fn failure_kind(cause: FailureCause) -> FailureKind {
    match cause {
        FailureCause::Connect | FailureCause::ConnectTimeout | FailureCause::TlsRejected => {
            FailureKind::Unreachable
        }
        FailureCause::Timeout | FailureCause::Slow => FailureKind::Timeout,
        FailureCause::Reset | FailureCause::Decode => FailureKind::Broken,
        FailureCause::Status(_) => FailureKind::Status,
    }
}
