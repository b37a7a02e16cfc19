//! A 421 (Misdirected Request) is answered by one more attempt over a connection of its own (RFC 9110, 15.5.20).
//!
//! Some servers and load balancers bind a connection to the name that TLS asked for, or to the `Host` of its first request, and answer 421
//! to any other. The gateway shares connections among buckets, so that is not the request's fault, nor the endpoint's: no circuit,
//! endpoint or credential counts it. The request was not processed, so it may be sent again even if it is conditional, or if the client
//! is itself trying again. It still has to be replayable, and the retry counts among `retry.max_attempts` and needs the bucket's
//! budget, because a store that answers nothing but 421 must not get twice the requests (R5).

use tidegate_actors::{Level, RetryTicket};

use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::upstream::UpstreamRejection;
use crate::upstream::outcome;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response_head::InspectedResponse;
use crate::worker::Worker;

/// Grants one more attempt to a request that was answered 421. It goes over a connection of its own.
pub(super) async fn acquire_retry(
    worker: &Worker,
    bucket: &Bucket,
    outbound: &mut UpstreamRequest,
    result: &Result<InspectedResponse, UpstreamRejection>,
    record: &Record,
) -> Option<RetryTicket> {
    let may_retry = is_misdirected_response(result)
        && outbound.is_replayable()
        && record.attempts < bucket.config.upstream.retry.max_attempts.get()
        && worker.shared.actors.monitor.level() < Level::Critical
        && outbound.require_own_connection();
    if may_retry { bucket.pool.acquire_retry().await } else { None }
}

/// Whether an attempt was answered 421.
pub(super) fn is_misdirected_response(result: &Result<InspectedResponse, UpstreamRejection>) -> bool {
    result.as_ref().is_ok_and(|answered| outcome::is_misdirected(answered.response.status().as_u16()))
}
