//! The attempts of one request: breaker ticket, call, classification, and possibly a retry (R1–R5).
//!
//! Hedged reads, with two attempts at a time, are in `hedge.rs`. Design: `docs/design/retries-and-hedging.md`.

use std::time::Duration;

use tidegate_actors::{BreakerTicket, CircuitId, OperationClass, Outcome, Permit, RetryTicket};
use tidegate_config::Priority;

use crate::request_head::Head;
use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::attempt_result::AttemptResult;
use crate::upstream::attempt::circuit_wait::{self, AttemptGrant, AttemptRequest};
use crate::upstream::attempt::credential_feedback;
use crate::upstream::attempt::hedge::{self, AttemptPermits, HedgeRace};
use crate::upstream::attempt::misdirected;
use crate::upstream::attempt::prepared_call::{PendingCall, observers, prepare_call};
use crate::upstream::attempt::response_head::{CallInfo, InspectedResponse, check_head, map_send_error};
use crate::upstream::attempt::timeouts::{AttemptLimits, with_timeouts};
use crate::upstream::body::RequestBody;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::call_resources::CallResources;
use crate::upstream::record::Record;
use crate::upstream::request::{SignatureRetry, UpstreamRequest};
use crate::upstream::response::UpstreamResponse;
use crate::upstream::rules::conditional_write;
use crate::upstream::rules::deadline::Deadline;
use crate::upstream::rules::outcome::Classification;
use crate::upstream::rules::retry::{backoff, has_attempts_left, is_client_retry};

/// The grant for a request: permit of the bucket's gate, circuit, priority and deadline.
pub(crate) struct UpstreamGrant {
    /// None if the request waits for its circuit first.
    pub(crate) permit: Option<Permit>,
    pub(crate) circuit: CircuitId,
    pub(crate) priority: Priority,
    pub(crate) deadline: Deadline,
    pub(crate) class: OperationClass,
}

/// Calls the upstream until a response can be forwarded or no retry is allowed.
pub(crate) async fn call(
    resources: CallResources<'_>,
    bucket: &Bucket,
    mut outbound: Box<UpstreamRequest>,
    grant: UpstreamGrant,
    record: &mut Record,
) -> Result<UpstreamResponse, UpstreamRejection> {
    let UpstreamGrant { permit: mut held_permit, circuit, class, priority, deadline } = grant;
    let upstream = &bucket.config.upstream;
    // A key that signs as itself and a preflight use none of the bucket's credentials.
    let needs_no_credential =
        outbound.request.is_preflight() || resources.client(bucket).signs_as_client(outbound.key);
    let read = hedge::read_kind(bucket, &outbound, class);
    let evidence = credential_feedback::evidence(bucket, &outbound, record);
    // Held from the permission to retry to the end of that attempt.
    let mut retry: Option<(Duration, Option<RetryTicket>)> = None;
    let mut held_ticket = None;
    loop {
        let counts_for_circuit = outbound.request.counts_for_circuit();
        let request = AttemptRequest {
            permit: held_permit,
            ticket: held_ticket,
            circuit,
            priority,
            is_replayable: outbound.is_replayable(),
            counts_for_circuit,
            deadline: deadline.total,
        };
        let AttemptGrant { mut permit, mut ticket, began } =
            circuit_wait::acquire(resources, bucket, request, record).await?;
        ensure_ready(bucket, &mut permit, needs_no_credential).await?;
        let limits = AttemptLimits { began, deadline, idle: upstream.idle_timeout };
        limits.check(&record.upload_progress).map_err(UpstreamRejection::Timeout)?;
        record.attempts += 1;
        record.set_endpoint(bucket, permit.endpoint());
        record.credential = permit.credential();
        let hedge_at = read.and_then(|kind| hedge::hedge_at(bucket, kind, record, began));
        let last = if let Some(hedge_at) = hedge_at {
            let race = HedgeRace { resources, bucket, circuit, limits, hedge_at, evidence };
            // Boxed like other rare paths, so that the state of an ordinary request stays small.
            let race = hedge::race(race, &mut outbound, AttemptPermits { permit, ticket }, record);
            let (last, permits) = Box::pin(race).await;
            AttemptPermits { permit, ticket } = permits;
            record.set_endpoint(bucket, permit.endpoint());
            record.credential = permit.credential();
            last
        } else {
            let result = attempt(resources, bucket, &mut outbound, &permit, limits, record).await;
            let context = (bucket, evidence, counts_for_circuit);
            AttemptResult::classify(context, limits, &record.upload_progress, (&permit, &mut ticket), result)
        };
        record.note_attempt(last.note(permit.endpoint()), last.ended);
        if let Some(kind) = read.filter(|_| last.classified.classification.outcome == Outcome::Success) {
            bucket.pool.record_read_latency(kind, last.ended.saturating_duration_since(began), last.ended);
        }

        // The attempt that the ticket was for has ended.
        drop(retry.take());
        let mut keeps_endpoint = last.is_credential_refused();
        if let Some(ticket) =
            misdirected::acquire_retry(resources, bucket, &mut outbound, &last.result, record).await
        {
            (retry, keeps_endpoint) = (Some((Duration::ZERO, Some(ticket))), true);
        } else if may_retry(resources, bucket, &outbound, &last, record) {
            retry = acquire_retry(bucket, &mut outbound, &mut permit, (&last, record, deadline)).await;
        }
        if let Some((pause, _)) = retry {
            record.record_retry(bucket, last.failure_reason(), last.status(), pause);
            held_ticket = continue_trial(bucket, ticket, last.classified.classification.outcome);
            drop(last);
            tokio::time::sleep(pause).await;
            if !keeps_endpoint {
                bucket.pool.reassign(&mut permit).await?;
            }
            bucket.metrics.retry_attempts.inc();
            held_permit = Some(permit);
            continue;
        }
        return finish_attempts(bucket, record, last, ticket, permit);
    }
}

/// Waits for the credential of a permit, and moves the permit from an endpoint that drains.
async fn ensure_ready(
    bucket: &Bucket,
    permit: &mut Permit,
    needs_no_credential: bool,
) -> Result<(), UpstreamRejection> {
    credential_feedback::ensure_ready(bucket, permit, needs_no_credential).await;
    if bucket.pool.may_drain(permit.endpoint()) {
        // Boxed like other rare paths, so that the state of an ordinary request stays small.
        Box::pin(bucket.pool.move_from_draining(permit)).await?;
    }
    Ok(())
}

/// Reports an attempt that another follows. The trial of a bucket with several endpoints goes on instead, and its last attempt decides:
/// a failure of one endpoint would keep the circuit open although another endpoint answers.
fn continue_trial(bucket: &Bucket, ticket: BreakerTicket, outcome: Outcome) -> Option<BreakerTicket> {
    if ticket.is_trial() == Some(true) && bucket.config.upstream.endpoints.len() > 1 {
        return Some(ticket.keep_for_next_call());
    }
    ticket.report(outcome);
    None
}

/// The response or the rejection of a call after its last attempt.
fn finish_attempts(
    bucket: &Bucket,
    record: &Record,
    last: AttemptResult,
    ticket: BreakerTicket,
    permit: Permit,
) -> Result<UpstreamResponse, UpstreamRejection> {
    let AttemptResult { result, classified, feedback, skew, .. } = last;
    let skew = skew.filter(|skew| skew.is_confirmed);
    let is_refused = skew.is_some() || misdirected::is_misdirected_response(&result);
    count_retry_result(bucket, record, &classified.classification, is_refused);
    let rejection = feedback.rejection().or_else(|| skew.map(UpstreamRejection::ClockSkew));
    if let Some(rejection) = rejection {
        ticket.report(classified.classification.outcome);
        return Err(rejection);
    }
    finish_call(result, classified.classification, ticket, permit)
}

/// Whether another attempt may follow.
fn may_retry(
    resources: CallResources<'_>,
    bucket: &Bucket,
    outbound: &UpstreamRequest,
    last: &AttemptResult,
    record: &Record,
) -> bool {
    let is_resigned = outbound.signature_retry_offset(last.skew.as_ref()).is_some();
    let is_refused = last.feedback.is_credential_error() || is_resigned;
    let is_unsent = matches!(&last.result, Err(rejection) if rejection.is_unsent());
    // A signature that was refused for its time had no effect, whatever the method.
    let replays = match is_resigned {
        true => outbound.has_body(),
        false => outbound.is_replayable() || (is_unsent && may_try_other_endpoint(bucket, outbound, record)),
    };
    (last.classified.classification.is_transient || is_refused)
        && replays
        && has_attempts_left(&bucket.config.upstream.retry, record.attempts)
        && may_resend(outbound, is_refused || is_unsent, bucket)
        && resources.may_repeat()
}

/// Whether a preflight that was not sent may be tried at another endpoint, once. A preflight reaches a store at most
/// once, and its failures do not eject an endpoint, so a refused connection would fail each preflight that is assigned
/// to this endpoint.
fn may_try_other_endpoint(bucket: &Bucket, outbound: &UpstreamRequest, record: &Record) -> bool {
    outbound.request.is_preflight() && record.attempts == 1 && bucket.config.upstream.endpoints.len() > 1
}

/// Acquires a retry ticket of the bucket and computes the pause before the attempt.
async fn acquire_retry(
    bucket: &Bucket,
    outbound: &mut UpstreamRequest,
    permit: &mut Permit,
    (last, record, deadline): (&AttemptResult, &Record, Deadline),
) -> Option<(Duration, Option<RetryTicket>)> {
    if let Some(offset) = outbound.signature_retry_offset(last.skew.as_ref()) {
        let ticket = bucket.pool.acquire_retry().await?;
        outbound.signature_retry = SignatureRetry::WithOffset(offset);
        return Some((Duration::ZERO, Some(ticket)));
    }
    if last.feedback.is_credential_error() {
        let (pause, ticket) = credential_feedback::retry_with_other(bucket, permit).await?;
        return Some((pause, Some(ticket)));
    }
    let left = deadline.total.saturating_duration_since(last.ended);
    let retry_after = last.classified.retry_after.wait;
    let pause = backoff(&bucket.config.upstream.retry, record.attempts + 1, retry_after, left)?;
    if outbound.request.is_preflight() {
        // Nothing was sent, and there is one such attempt. Anybody can send preflights, so they must not spend the budget.
        return Some((pause, None));
    }
    bucket.pool.acquire_retry().await.map(|ticket| (pause, Some(ticket)))
}

/// Whether the headers and the method allow to send a failed request again.
fn may_resend(outbound: &UpstreamRequest, had_no_effect: bool, bucket: &Bucket) -> bool {
    let Head { method, headers, uri, .. } = outbound.request.head();
    if !had_no_effect && conditional_write::is_conditional(method, headers, uri.query().unwrap_or_default()) {
        return false;
    }
    let client_retries = is_client_retry(headers);
    if client_retries {
        bucket.metrics.retry_left_to_client.inc();
    }
    !client_retries
}

fn finish_call(
    result: Result<InspectedResponse, UpstreamRejection>,
    classification: Classification,
    ticket: BreakerTicket,
    permit: Permit,
) -> Result<UpstreamResponse, UpstreamRejection> {
    let InspectedResponse { response, document: error_document, .. } = match result {
        Ok(response) => response,
        Err(rejection) => {
            ticket.report(classification.outcome);
            return Err(rejection);
        }
    };
    // A failure is reported at once. A success is reported at the last byte.
    let ticket = if classification.outcome == Outcome::Success {
        Some(ticket)
    } else {
        ticket.report(classification.outcome);
        None
    };
    Ok(UpstreamResponse { response, error_document, permit, ticket })
}

fn count_retry_result(bucket: &Bucket, record: &Record, classification: &Classification, is_refused: bool) {
    if record.attempts - u32::from(record.hedged.is_some()) > 1 {
        if is_refused
            || classification.is_transient
            || matches!(classification.outcome, Outcome::Failure { .. })
        {
            bucket.metrics.retry_exhausted.inc();
        } else {
            bucket.metrics.retry_success.inc();
        }
    }
}

/// One call, up to the response head.
async fn attempt(
    resources: CallResources<'_>,
    bucket: &Bucket,
    outbound: &mut UpstreamRequest,
    permit: &Permit,
    limits: AttemptLimits,
    record: &Record,
) -> Result<InspectedResponse, UpstreamRejection> {
    let progress = &record.upload_progress;
    let PendingCall { mut call, signed_offset } =
        prepare_call(resources, bucket, outbound, permit, limits, observers(record))?;
    let sent = with_timeouts(&mut call, limits, (progress, None), &bucket.late_calls).await;
    let response = match map_send_error(sent, limits.began, progress) {
        Ok(response) => response,
        Err(rejection) => {
            if let Some(upload) = call.reclaim_upload() {
                outbound.body = RequestBody::Stream(Some(upload));
            }
            return Err(rejection);
        }
    };
    let method = outbound.request.head().method;
    let (kind, region) = (bucket.config.kind, &bucket.signing_region);
    let call_info = CallInfo { kind, method, signed_offset, region, deadline: limits.deadline.total };
    check_head(response, call_info).await
}
