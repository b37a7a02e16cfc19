//! Acquires the permit and the breaker ticket of an attempt. A request may wait for its circuit.
//!
//! A request that finds its circuit closed already has its permit and takes the ticket last, immediately before the
//! call. A request that may wait for its circuit (`circuit_breaker.hold_ms`) holds no permit while it waits: it takes
//! the ticket first and the permit afterwards. Whether a request may wait is decided from its head before it queues,
//! so other requests are rejected there. Once the body is read, the body decides.
//!
//! Design: `docs/design/retries-and-hedging.md`.

use std::time::Instant;

use actix_web::http::Method;
use tidegate_actors::{Action, BreakerRejection, BreakerTicket, CircuitId, InForce, Permit, clock};
use tidegate_config::Priority;
use tidegate_s3::request::BodyLength;

use crate::upstream::UpstreamRejection;
use crate::upstream::body::REPLAY_BYTES_MAX;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::call_resources::CallResources;
use crate::upstream::record::Record;
use crate::upstream::rules::retry::is_idempotent;

/// Whether the head of a request allows to repeat it, so that it may wait for its circuit.
pub(crate) fn is_replayable(method: &Method, length: BodyLength) -> bool {
    let is_whole = match length {
        BodyLength::Empty => true,
        BodyLength::Known(bytes) => bytes <= REPLAY_BYTES_MAX,
        BodyLength::Chunked => false,
    };
    is_whole && is_idempotent(method)
}

/// Whether a replayable request may wait for the circuit that rejected it.
pub(crate) fn may_wait_for_circuit(
    resources: CallResources<'_>,
    bucket: &Bucket,
    circuit: CircuitId,
    refusal: &BreakerRejection,
) -> bool {
    bucket.breaker.may_wait(circuit, refusal) && resources.may_repeat()
}

/// The same for a request that is only explained: nothing is counted.
pub(crate) fn would_wait_for_circuit(
    resources: CallResources<'_>,
    bucket: &Bucket,
    circuit: CircuitId,
    refusal: &BreakerRejection,
) -> bool {
    let retries = resources.monitor.actions().check(Action::Retries);
    bucket.breaker.may_wait(circuit, refusal) && retries != Some(InForce::Enforced)
}

/// What an attempt holds, and when it began.
pub(crate) struct AttemptGrant {
    pub(crate) permit: Permit,
    pub(crate) ticket: BreakerTicket,
    pub(crate) began: Instant,
}

/// What an attempt asks for.
pub(crate) struct AttemptRequest {
    /// The permit. None if the request waits for the circuit first.
    pub(crate) permit: Option<Permit>,
    /// The ticket of the attempt before, if its trial goes on.
    pub(crate) ticket: Option<BreakerTicket>,
    pub(crate) circuit: CircuitId,
    pub(crate) priority: Priority,
    /// Whether the request can be sent again.
    pub(crate) is_replayable: bool,
    /// Whether the outcome counts for the circuit.
    pub(crate) counts_for_circuit: bool,
    pub(crate) deadline: Instant,
}

/// Acquires the permit and the ticket of an attempt.
pub(crate) async fn acquire(
    resources: CallResources<'_>,
    bucket: &Bucket,
    request: AttemptRequest,
    record: &mut Record,
) -> Result<AttemptGrant, UpstreamRejection> {
    let AttemptRequest { permit, ticket, circuit, priority, is_replayable, counts_for_circuit, deadline } =
        request;
    let breaker = &bucket.breaker;
    if let Some(permit) = permit {
        let began = clock::now();
        if let Some(ticket) = ticket {
            return Ok(AttemptGrant { permit, ticket, began });
        }
        let acquired = match breaker.check(circuit, began) {
            _ if !counts_for_circuit => breaker.acquire_uncounted(circuit, began),
            Ok(check) => breaker.acquire(circuit, check).await,
            Err(refusal) => Err(refusal),
        };
        match acquired {
            Ok(ticket) => {
                if let Some(refusal) = ticket.shadowed_refusal() {
                    record.record_shadowed_circuit(bucket, refusal);
                }
                return Ok(AttemptGrant { permit, ticket, began });
            }
            Err(refusal) if is_replayable && may_wait_for_circuit(resources, bucket, circuit, &refusal) => {
                drop(permit)
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
    // Boxed like other rare paths, so that the state of an ordinary request stays small.
    Box::pin(wait_and_acquire(bucket, (circuit, priority, deadline), record)).await
}

/// Waits for the circuit, and then acquires a permit.
async fn wait_and_acquire(
    bucket: &Bucket,
    (circuit, priority, deadline): (CircuitId, Priority, Instant),
    record: &mut Record,
) -> Result<AttemptGrant, UpstreamRejection> {
    let since = clock::now();
    let ticket = bucket.breaker.wait_for_circuit(circuit, deadline).await?;
    record.record_circuit_wait(bucket, clock::now().saturating_duration_since(since));
    let since = clock::now();
    let permit = bucket.pool.acquire(priority, deadline).await?;
    let began = clock::now();
    record.phases.permitted = Some(began);
    record.record_queueing(bucket, began.saturating_duration_since(since));
    Ok(AttemptGrant { permit, ticket, began })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B2, R3: only a request that can be sent again may wait
    #[test]
    fn only_requests_that_can_be_repeated_are_replayable() {
        let small = BodyLength::Known(REPLAY_BYTES_MAX);
        let large = BodyLength::Known(REPLAY_BYTES_MAX + 1);
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::PUT] {
            assert!(is_replayable(&method, BodyLength::Empty) && is_replayable(&method, small), "{method}");
            assert!(
                !is_replayable(&method, large) && !is_replayable(&method, BodyLength::Chunked),
                "{method}"
            );
        }
        assert!(!is_replayable(&Method::POST, BodyLength::Empty) && !is_replayable(&Method::POST, small));
    }
}
