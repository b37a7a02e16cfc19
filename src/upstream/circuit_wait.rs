//! The way to an attempt: a place in the bucket's gate and leave of the circuit, which may be waited for.
//!
//! A request that finds its circuit closed has its place already, and asks for leave last, immediately before the call. One that
//! may wait for its circuit (`circuit_breaker.hold_ms`) has no place while it does: it gets leave first and then a place. Which
//! requests may wait is known from their heads before they queue, so the others are refused there; once the body is in hand, it
//! is the body that tells.

use std::time::Instant;

use actix_web::http::Method;
use tidegate_actors::{BreakerRejection, BreakerTicket, CircuitId, Level, Permit, clock};
use tidegate_config::Priority;

use crate::http::error::GatewayError;
use crate::http::request_validation::BodyLength;
use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::upstream::body::REPLAY_BYTES_MAX;
use crate::upstream::request::is_idempotent;
use crate::worker::Worker;

/// Whether a request of this kind could be repeated, so that it may wait.
pub(crate) fn is_replayable(method: &Method, length: BodyLength) -> bool {
    let is_whole = match length {
        BodyLength::Empty => true,
        BodyLength::Known(bytes) => bytes <= REPLAY_BYTES_MAX,
        BodyLength::Chunked => false,
    };
    is_whole && is_idempotent(method)
}

/// Whether a request that could be repeated may wait for the circuit that refused it.
pub(crate) fn may_wait_for_circuit(
    worker: &Worker,
    bucket: &Bucket,
    circuit: CircuitId,
    refusal: &BreakerRejection,
) -> bool {
    bucket.breaker.may_wait(circuit, refusal) && worker.shared.actors.monitor.level() < Level::Critical
}

/// What an attempt is made with, and since when.
pub(super) struct AttemptGrant {
    pub(super) permit: Permit,
    pub(super) ticket: BreakerTicket,
    pub(super) began: Instant,
}

/// Who wants to make an attempt.
pub(super) struct AttemptRequest {
    /// Its place; none where it waits for the circuit first.
    pub(super) permit: Option<Permit>,
    pub(super) circuit: CircuitId,
    pub(super) priority: Priority,
    /// Whether it could be repeated.
    pub(super) is_replayable: bool,
    /// Whether its outcome counts for the circuit.
    pub(super) counts_for_circuit: bool,
    /// When its time is up.
    pub(super) deadline: Instant,
}

/// Takes what an attempt needs.
pub(super) async fn acquire(
    worker: &Worker,
    bucket: &Bucket,
    request: AttemptRequest,
    record: &mut Record,
) -> Result<AttemptGrant, GatewayError> {
    let AttemptRequest { permit, circuit, priority, is_replayable, counts_for_circuit, deadline } = request;
    let breaker = &bucket.breaker;
    if let Some(permit) = permit {
        let began = clock::now();
        let acquired = match breaker.check(circuit, began) {
            _ if !counts_for_circuit => breaker.acquire_uncounted(circuit, began),
            Ok(clearance) => breaker.acquire(circuit, clearance).await,
            Err(refusal) => Err(refusal),
        };
        match acquired {
            Ok(ticket) => return Ok(AttemptGrant { permit, ticket, began }),
            Err(refusal) if is_replayable && may_wait_for_circuit(worker, bucket, circuit, &refusal) => {
                drop(permit)
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let ticket = breaker.wait_for_circuit(circuit, deadline).await?;
    let permit = bucket.pool.acquire(priority, deadline).await?;
    let began = clock::now();
    record.phases.permitted = Some(began);
    Ok(AttemptGrant { permit, ticket, began })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B2, R3: only what could be sent again may wait
    #[test]
    fn what_can_be_repeated_is_patient() {
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
