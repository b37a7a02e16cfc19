//! A slow read is asked for a second time, and the faster answer counts (`hedging`).
//!
//! ```text
//! first attempt ──────────────────────────────▶ answer: passed on; a hedge under way is dropped, and its connection with it
//!   └─ p95 of such reads passed ─▶ all well? ─▶ hedge ──▶ answer that is no failure: passed on; the first attempt is dropped
//!                                    └─ no: counted, by cause; the first attempt goes on alone
//! ```
//!
//! A hedge is an attempt: it has a permit of the gate, a ticket of the circuit, and a place among the request's `max_attempts`.
//! It is sent only if everything is well: the client does not try again itself, the level is below critical, the circuit is
//! closed, the bucket's purse is not empty and a place is free at once. There is one at most for a request.
//!
//! Whichever is dropped says nothing of the upstream: its ticket is dropped unreported, and its latency is none. A failure
//! decides nothing while the other is under way. It is reported as any, but not passed on, so a hedge makes no request worse,
//! and a first attempt that fails has its retry under way already. What began to be passed on is beyond all this: the race
//! ends with the head of an answer.
//!
//! The moment of the hedge is told by the timer that the attempt has anyway (`watch.rs`), and the second attempt is made only when
//! it comes: a fast read costs no timer, no message and no memory more than without hedging.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use actix_web::http::Method;
use awc::SendClientRequest;
use futures_util::FutureExt;
use futures_util::future::{Either, Fuse, select};
use tidegate_actors::{
    BreakerTicket, CircuitCheck, CircuitId, EndpointId, HedgeRefusal, Level, OperationClass, Permit,
    ReadKind, RequestFingerprints, clock,
};

use crate::router::Bucket;
use crate::telemetry::record::{HedgeOutcome, Record};
use crate::upstream::UpstreamRejection;
use crate::upstream::body::RequestBody;
use crate::upstream::call::{AttemptResult, PendingCall, prepare_call};
use crate::upstream::call_context::CallContext;
use crate::upstream::credential_feedback;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response_head::{CallInfo, InspectedResponse, check_head, map_send_error};
use crate::upstream::retry::is_client_retry;
use crate::upstream::timeouts::{AttemptLimits, with_timeouts};
use crate::upstream::upload_progress::UploadProgress;
use crate::worker::Worker;

/// Why a hedge whose moment had come was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HedgeSuppression {
    /// The client is itself trying again.
    Client,
    /// The level is critical.
    Level,
    /// The circuit is not closed.
    Breaker,
    /// The purse is empty.
    Budget,
    /// No place is free.
    Gate,
    /// The pool gave no answer.
    Pool,
    /// There is nobody to sign it as.
    Credentials,
}

impl HedgeSuppression {
    pub(crate) const ALL: [Self; 7] =
        [Self::Client, Self::Level, Self::Breaker, Self::Budget, Self::Gate, Self::Pool, Self::Credentials];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Level => "level",
            Self::Breaker => "breaker",
            Self::Budget => "budget",
            Self::Gate => "gate",
            Self::Pool => "pool",
            Self::Credentials => "credentials",
        }
    }
}

/// What kind of read this is, if the bucket asks for slow ones a second time.
pub(super) fn read_kind(
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

/// When an attempt that begins now is hedged.
pub(super) fn hedge_at(bucket: &Bucket, kind: ReadKind, record: &Record, now: Instant) -> Option<Instant> {
    let attempts_max = bucket.config.upstream.retry.max_attempts.get();
    let may_hedge = record.hedged.is_none() && record.attempts < attempts_max;
    let delay = if may_hedge { bucket.pool.hedge_delay(kind) } else { None };
    delay.map(|delay| now + delay)
}

/// What an attempt holds.
pub(super) struct AttemptPermits {
    pub(super) permit: Permit,
    pub(super) ticket: BreakerTicket,
}

/// An attempt that may become two.
#[derive(Clone, Copy)]
pub(super) struct HedgeRace<'a> {
    pub(super) worker: &'a Worker,
    pub(super) bucket: &'a Bucket,
    pub(super) circuit: CircuitId,
    /// Who asks for what.
    pub(super) evidence: Option<RequestFingerprints>,
    pub(super) limits: AttemptLimits,
    /// When it is hedged.
    pub(super) hedge_at: Instant,
}

/// Makes an attempt, and if it takes long a second one beside it. What is held in the end is the winner's.
pub(super) async fn race(
    race: HedgeRace<'_>,
    outbound: &mut UpstreamRequest,
    mut held: AttemptPermits,
    record: &mut Record,
) -> (AttemptResult, AttemptPermits) {
    let HedgeRace { worker, bucket, limits, hedge_at, evidence, .. } = race;
    let flow = Rc::clone(&record.upload_progress);
    let over = |held: &mut AttemptPermits, limits, result| {
        // Reads of clients only are hedged.
        AttemptResult::classify(
            (bucket, evidence, true),
            limits,
            &flow,
            (&held.permit, &mut held.ticket),
            result,
        )
    };
    let PendingCall { call, context, signed_offset } =
        match prepare_call(worker, bucket, outbound, &held.permit, limits, &flow) {
            Ok(sending) => sending,
            Err(rejection) => return (over(&mut held, limits, Err(rejection)), held),
        };
    context.arm_hedge_timer(hedge_at);
    let method = outbound.request.head().method.clone();
    let facts = CallInfo {
        kind: bucket.config.kind,
        method: &method,
        signed_offset,
        deadline: limits.deadline.total,
    };
    let mut first = pin!(run_attempt(call, Rc::clone(&context), limits, (bucket, facts)).fuse());

    if let Either::Left((result, _)) = select(first.as_mut(), pin!(context.hedge_due())).await {
        return (over(&mut held, limits, result), held);
    }
    let acquiring = Box::pin(acquire(race, outbound, held.permit.endpoint(), &flow));
    let entered = match select(first.as_mut(), acquiring).await {
        Either::Left((result, _)) => return (over(&mut held, limits, result), held),
        Either::Right((entered, _)) => entered,
    };
    let HedgeGrant { permits: mut hedges, limits: hedge_limits, call: sending } = match entered {
        Ok(entered) => entered,
        Err(cause) => {
            bucket.metrics.hedges.count_suppressed(cause);
            let result = first.await;
            return (over(&mut held, limits, result), held);
        }
    };
    record.attempts += 1;
    record.hedged = Some(HedgeOutcome::Lost);
    bucket.metrics.hedges.sent.inc();
    let PendingCall { call, context: ongoing, signed_offset: signed } = sending;
    let mut second = Box::pin(run_attempt(
        call,
        ongoing,
        hedge_limits,
        (bucket, CallInfo { signed_offset: signed, ..facts }),
    ));
    let (tried, held) = match select(first.as_mut(), second.as_mut()).await {
        Either::Left((result, _)) => {
            let tried = over(&mut held, limits, result);
            if tried.is_conclusive() {
                return (tried, held);
            }
            held.ticket.report(tried.classified.classification.outcome);
            drop(held.permit);
            (over(&mut hedges, hedge_limits, second.await), hedges)
        }
        Either::Right((result, _)) => {
            let tried = over(&mut hedges, hedge_limits, result);
            if !tried.is_conclusive() {
                hedges.ticket.report(tried.classified.classification.outcome);
                drop(hedges.permit);
                let result = first.await;
                return (over(&mut held, limits, result), held);
            }
            // Its connection goes before its place does.
            first.set(Fuse::terminated());
            (tried, hedges)
        }
    };
    if tried.is_conclusive() {
        record.hedged = Some(HedgeOutcome::Won);
        bucket.metrics.hedges.won.inc();
    }
    (tried, held)
}

/// A hedge that may be sent.
struct HedgeGrant {
    permits: AttemptPermits,
    limits: AttemptLimits,
    call: PendingCall,
}

/// Whether a hedge may be sent now that its moment has come.
async fn acquire(
    race: HedgeRace<'_>,
    outbound: &mut UpstreamRequest,
    slow: EndpointId,
    flow: &Rc<UploadProgress>,
) -> Result<HedgeGrant, HedgeSuppression> {
    let HedgeRace { worker, bucket, circuit, .. } = race;
    if is_client_retry(outbound.request.head().headers) {
        return Err(HedgeSuppression::Client);
    }
    if worker.shared.actors.monitor.level() >= Level::Critical {
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
        worker.client(bucket).signs_as_client(outbound.key),
    )
    .await;
    let ticket = bucket.breaker.acquire_if_closed(circuit).ok_or(HedgeSuppression::Breaker)?;
    let permits = AttemptPermits { permit, ticket };
    let limits = AttemptLimits { began: clock::now(), ..race.limits };
    let sending = prepare_call(worker, bucket, outbound, &permits.permit, limits, flow);
    let call = sending.map_err(|_| HedgeSuppression::Credentials)?;
    Ok(HedgeGrant { permits, limits, call })
}

/// Runs an attempt to the head of its answer; dropped before that, it takes its connection along.
async fn run_attempt(
    call: SendClientRequest,
    ongoing: Rc<CallContext>,
    limits: AttemptLimits,
    (bucket, facts): (&Bucket, CallInfo<'_>),
) -> Result<InspectedResponse, UpstreamRejection> {
    let response = map_send_error(
        with_timeouts(call, limits, &ongoing, &bucket.late_calls).await,
        &ongoing.upload_progress,
    )?;
    check_head(response, facts, ongoing.socket()).await
}
