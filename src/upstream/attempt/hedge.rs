//! Hedged reads: a slow read is sent a second time, and the faster response is forwarded (`hedging`).
//!
//! A hedge is an attempt: it has a permit of the gate and a ticket of the circuit, and counts for `max_attempts`. It
//! is sent only if the client is not retrying itself, the resource level is below critical, the circuit is closed,
//! the bucket's hedge budget is not empty and a permit is free at once. A request has at most one hedge.
//!
//! The dropped attempt reports nothing: neither an outcome nor a latency. A failure does not decide while the other
//! attempt is running. It is reported but not forwarded. The race ends with the head of a response. The existing
//! timer of the attempt (`timeouts.rs`) fires the hedge, so a fast read costs no extra timer, message or memory.
//!
//! Design: `docs/design/retries-and-hedging.md`.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use actix_web::http::Method;
use futures_util::FutureExt;
use futures_util::future::{Either, Fuse, select};
use tidegate_actors::{
    Action, BreakerTicket, CircuitCheck, CircuitId, EndpointId, HedgeRefusal, OperationClass, Permit,
    ReadKind, RequestFingerprints, clock,
};

use crate::telemetry::metrics::hedges::HedgeSuppression;
use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::attempt_result::AttemptResult;
use crate::upstream::attempt::credential_feedback;
use crate::upstream::attempt::hedge_timer::HedgeTimer;
use crate::upstream::attempt::prepared_call::{PendingCall, observers, prepare_call};
use crate::upstream::attempt::response_head::{CallInfo, InspectedResponse, check_head, map_send_error};
use crate::upstream::attempt::timeouts::{AttemptLimits, with_timeouts};
use crate::upstream::body::RequestBody;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::call_resources::CallResources;
use crate::upstream::exchange::sent_request::{ExchangeObservers, SentRequest};
use crate::upstream::record::attempt_notes::{AttemptNote, AttemptOutcome};
use crate::upstream::record::{HedgeOutcome, Record};
use crate::upstream::request::UpstreamRequest;
use crate::upstream::rules::retry::{has_attempts_left, is_client_retry};

/// The kind of read, if the bucket hedges such requests.
pub(crate) fn read_kind(
    bucket: &Bucket,
    outbound: &UpstreamRequest,
    class: OperationClass,
) -> Option<ReadKind> {
    let is_read = || {
        matches!(*outbound.request.head().method, Method::GET | Method::HEAD)
            && outbound.body.buffered().is_none_or(|body| body.is_empty())
            && !matches!(outbound.body, RequestBody::Stream(_))
    };
    let kind = match class {
        OperationClass::Read => ReadKind::Object,
        OperationClass::List => ReadKind::Listing,
        OperationClass::Write => return None,
    };
    (bucket.pool.has_hedging() && is_read()).then_some(kind)
}

/// When to hedge an attempt that begins now. None if it is not hedged.
pub(crate) fn hedge_at(bucket: &Bucket, kind: ReadKind, record: &Record, now: Instant) -> Option<Instant> {
    let may_hedge =
        record.hedged.is_none() && has_attempts_left(&bucket.config.upstream.retry, record.attempts);
    let delay = if may_hedge { bucket.pool.hedge_delay(kind) } else { None };
    delay.map(|delay| now + delay)
}

/// What an attempt holds.
pub(crate) struct AttemptPermits {
    pub(crate) permit: Permit,
    pub(crate) ticket: BreakerTicket,
}

/// An attempt that may be hedged.
#[derive(Clone, Copy)]
pub(crate) struct HedgeRace<'a> {
    pub(crate) resources: CallResources<'a>,
    pub(crate) bucket: &'a Bucket,
    pub(crate) circuit: CircuitId,
    /// Fingerprints of client and target.
    pub(crate) evidence: Option<RequestFingerprints>,
    pub(crate) limits: AttemptLimits,
    /// When to send the hedge.
    pub(crate) hedge_at: Instant,
}

/// Makes an attempt, and a hedge if the attempt takes long. Returns the permits of the attempt that decided.
pub(crate) async fn race(
    race: HedgeRace<'_>,
    outbound: &mut UpstreamRequest,
    mut permits: AttemptPermits,
    record: &mut Record,
) -> (AttemptResult, AttemptPermits) {
    let HedgeRace { resources, bucket, limits, hedge_at, evidence, .. } = race;
    let progress = Rc::clone(&record.upload_progress);
    let classify = |permits: &mut AttemptPermits, limits, result| {
        // Preflights are never hedged, so each attempt counts.
        let attempt = (&permits.permit, &mut permits.ticket);
        AttemptResult::classify((bucket, evidence, true), limits, &progress, attempt, result)
    };
    let PendingCall { call, signed_offset } =
        match prepare_call(resources, bucket, outbound, &permits.permit, limits, observers(record)) {
            Ok(call) => call,
            Err(rejection) => return (classify(&mut permits, limits, Err(rejection)), permits),
        };
    let timer = HedgeTimer::new(hedge_at);
    let method = outbound.request.head().method.clone();
    let (kind, region, deadline) = (bucket.config.kind, &bucket.signing_region, limits.deadline.total);
    let call_info = CallInfo { kind, method: &method, signed_offset, region, deadline };
    let mut first = pin!(run_attempt(call, limits, (&progress, Some(&timer)), (bucket, call_info)).fuse());

    if let Either::Left((result, _)) = select(first.as_mut(), pin!(timer.fired())).await {
        return (classify(&mut permits, limits, result), permits);
    }
    let acquiring = Box::pin(acquire(race, outbound, permits.permit.endpoint(), observers(record)));
    let grant = match select(first.as_mut(), acquiring).await {
        Either::Left((result, _)) => return (classify(&mut permits, limits, result), permits),
        Either::Right((grant, _)) => grant,
    };
    let HedgeGrant { permits: mut hedge_permits, limits: hedge_limits, call } = match grant {
        Ok(grant) => grant,
        Err(cause) => {
            bucket.metrics.hedges.count_suppressed(cause);
            let result = first.await;
            return (classify(&mut permits, limits, result), permits);
        }
    };
    record_sent(race, hedge_limits, record);
    let PendingCall { call, signed_offset: signed } = call;
    let hedge_info = CallInfo { signed_offset: signed, ..call_info };
    let mut second = Box::pin(run_attempt(call, hedge_limits, (&progress, None), (bucket, hedge_info)));
    let (last, permits) = match select(first.as_mut(), second.as_mut()).await {
        Either::Left((result, _)) => {
            let last = classify(&mut permits, limits, result);
            if last.is_conclusive() {
                note_superseded(record, &hedge_permits, hedge_limits);
                return (last, permits);
            }
            record.attempt_notes.push(last.note(permits.permit.endpoint()));
            permits.ticket.report(last.classified.classification.outcome);
            drop(permits.permit);
            (classify(&mut hedge_permits, hedge_limits, second.await), hedge_permits)
        }
        Either::Right((result, _)) => {
            let last = classify(&mut hedge_permits, hedge_limits, result);
            if !last.is_conclusive() {
                record.attempt_notes.push(last.note(hedge_permits.permit.endpoint()));
                hedge_permits.ticket.report(last.classified.classification.outcome);
                drop(hedge_permits.permit);
                let result = first.await;
                return (classify(&mut permits, limits, result), permits);
            }
            // The connection must close before the permit is released.
            first.set(Fuse::terminated());
            note_superseded(record, &permits, limits);
            (last, hedge_permits)
        }
    };
    if last.is_conclusive() {
        record.hedged = Some(HedgeOutcome::Won);
        bucket.metrics.hedges.won.inc();
    }
    (last, permits)
}

/// Records that the hedge is sent.
fn record_sent(race: HedgeRace<'_>, hedge_limits: AttemptLimits, record: &mut Record) {
    let HedgeRace { bucket, limits, hedge_at, .. } = race;
    record.attempts += 1;
    record.hedged = Some(HedgeOutcome::Lost);
    let delay = hedge_at.saturating_duration_since(limits.began);
    record.record_hedge(hedge_limits.began.saturating_duration_since(limits.began), delay);
    bucket.metrics.hedges.sent.inc();
}

/// Notes the attempt that is dropped because the other one answered.
fn note_superseded(record: &mut Record, permits: &AttemptPermits, limits: AttemptLimits) {
    record.attempt_notes.push(AttemptNote {
        endpoint: permits.permit.endpoint().0,
        outcome: AttemptOutcome::Superseded,
        is_failure: false,
        took: clock::now().saturating_duration_since(limits.began),
    });
}

/// A hedge that may be sent.
struct HedgeGrant {
    permits: AttemptPermits,
    limits: AttemptLimits,
    call: PendingCall,
}

/// Acquires what a due hedge needs, or returns why it may not be sent.
async fn acquire(
    race: HedgeRace<'_>,
    outbound: &mut UpstreamRequest,
    slow: EndpointId,
    observers: ExchangeObservers,
) -> Result<HedgeGrant, HedgeSuppression> {
    let HedgeRace { resources, bucket, circuit, .. } = race;
    if is_client_retry(outbound.request.head().headers) {
        return Err(HedgeSuppression::Client);
    }
    if resources.monitor.actions().applies(Action::Hedges) {
        return Err(HedgeSuppression::Level);
    }
    if !matches!(bucket.breaker.check(circuit, clock::now()), Ok(CircuitCheck::Closed { .. })) {
        return Err(HedgeSuppression::Breaker);
    }
    let mut permit = bucket.pool.acquire_hedge(slow).await.map_err(|refusal| match refusal {
        HedgeRefusal::Budget => HedgeSuppression::Budget,
        HedgeRefusal::Gate => HedgeSuppression::Gate,
        HedgeRefusal::Unavailable(_) => HedgeSuppression::Pool,
    })?;
    credential_feedback::ensure_ready(
        bucket,
        &mut permit,
        resources.client(bucket).signs_as_client(outbound.key),
    )
    .await;
    if bucket.pool.may_drain(permit.endpoint()) {
        return Err(HedgeSuppression::Gate);
    }
    let ticket = bucket.breaker.acquire_if_closed(circuit).ok_or(HedgeSuppression::Breaker)?;
    let permits = AttemptPermits { permit, ticket };
    let limits = AttemptLimits { began: clock::now(), ..race.limits };
    let call = prepare_call(resources, bucket, outbound, &permits.permit, limits, observers);
    let call = call.map_err(|_| HedgeSuppression::Credentials)?;
    Ok(HedgeGrant { permits, limits, call })
}

/// Runs an attempt up to the response head. Dropped before that, it closes its connection.
async fn run_attempt(
    call: SentRequest,
    limits: AttemptLimits,
    (progress, timer): (&UploadProgress, Option<&HedgeTimer>),
    (bucket, call_info): (&Bucket, CallInfo<'_>),
) -> Result<InspectedResponse, UpstreamRejection> {
    let sent = with_timeouts(call, limits, (progress, timer), &bucket.late_calls).await;
    check_head(map_send_error(sent, limits.began, progress)?, call_info).await
}
