//! Retries a request with status 421 (Misdirected Request) once over a separate connection (RFC 9110, 15.5.20).
//!
//! Some servers and load balancers bind a connection to its TLS server name, or to the `Host` of its first request,
//! and respond 421 to any other `Host`. The gateway shares connections among buckets, so it caused the 421: no
//! circuit, endpoint or credential counts it. The request was not processed, so it may be sent again even if it is
//! conditional or a retry of the client. It must be replayable. The retry counts for `retry.max_attempts` and needs
//! the retry budget, because a store that responds only with 421 must not get twice the requests (R5).
//!
//! Design: `docs/design/retries-and-hedging.md`.

use tidegate_actors::RetryTicket;

use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::response_head::InspectedResponse;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::call_resources::CallResources;
use crate::upstream::record::Record;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::rules::outcome;
use crate::upstream::rules::retry::has_attempts_left;

/// Grants a retry over a separate connection to a request with status 421.
pub(crate) async fn acquire_retry(
    resources: CallResources<'_>,
    bucket: &Bucket,
    outbound: &mut UpstreamRequest,
    result: &Result<InspectedResponse, UpstreamRejection>,
    record: &Record,
) -> Option<RetryTicket> {
    let may_retry = is_misdirected_response(result)
        && outbound.is_replayable()
        && has_attempts_left(&bucket.config.upstream.retry, record.attempts)
        && resources.may_repeat()
        && outbound.require_own_connection();
    if may_retry { Box::pin(bucket.pool.acquire_retry()).await } else { None }
}

/// Whether the response of an attempt is a 421.
pub(crate) fn is_misdirected_response(result: &Result<InspectedResponse, UpstreamRejection>) -> bool {
    result.as_ref().is_ok_and(|inspected| outcome::is_misdirected(inspected.response.status().as_u16()))
}
