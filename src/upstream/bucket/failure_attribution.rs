//! Attributes a failure to the endpoint or to the whole bucket.
//!
//! Every failure is reported to the pool, which ejects failing endpoints. The circuit gets only the failures that no
//! other endpoint could have avoided: one bad endpoint of three must not close the bucket for everybody (P5), and
//! when all endpoints are bad the circuit must open (B1). Timeouts and throttling are also reported as overload, for
//! the adaptive concurrency limit (P7).
//!
//! All cases: `docs/design/failure-attribution.md`.

use std::time::{Duration, Instant};

use tidegate_actors::{EndpointId, FailureCause, FailureKind, Outcome, OverloadSignal, clock};

use crate::upstream::UpstreamRejection;
use crate::upstream::bucket::Bucket;
use crate::upstream::rules::outcome::is_overload;

/// Reports a failed call that began at `began` to the pool, and returns the outcome for the circuit. Outcomes other
/// than failures are returned unchanged.
pub(crate) fn attribute(bucket: &Bucket, endpoint: EndpointId, outcome: Outcome, began: Instant) -> Outcome {
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

/// An attempt up to the response head.
pub(crate) struct FinishedAttempt {
    pub(crate) endpoint: EndpointId,
    pub(crate) began: Instant,
    /// How long the upstream took after it had the whole request.
    pub(crate) waited: Duration,
}

impl FinishedAttempt {
    /// Reports the attempt to the pool, with the status if there is one, and returns the outcome for the circuit.
    pub(crate) fn report_outcome(
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
            // The latency of a failure is not recorded: an endpoint that fails at once would be preferred for its
            // speed.
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
