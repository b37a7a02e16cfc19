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
    BreakerTicket, CircuitId, Clearance, EndpointId, Evidence, HedgeRefusal, Level, OperationClass, Permit,
    ReadKind, clock,
};

use crate::router::Bucket;
use crate::telemetry::record::{Hedged, Record};
use crate::upstream::UpstreamRejection;
use crate::upstream::body::RequestBody;
use crate::upstream::call::{Sending, Tried, send};
use crate::upstream::early::Ongoing;
use crate::upstream::flow::Flow;
use crate::upstream::identity;
use crate::upstream::outbound::Outbound;
use crate::upstream::reply::{Answered, CallFacts, head, heard};
use crate::upstream::retry::is_clients_retry;
use crate::upstream::watch::{Limits, watch};
use crate::worker::Worker;

/// Why a hedge whose moment had come was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suppressed {
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

impl Suppressed {
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
pub(super) fn kind(bucket: &Bucket, outbound: &Outbound, class: OperationClass) -> Option<ReadKind> {
    let is_read = || {
        matches!(*outbound.request.head().method, Method::GET | Method::HEAD)
            && outbound.body.whole().is_none_or(|body| body.is_empty())
            && !matches!(outbound.body, RequestBody::Stream(_))
    };
    let kind = match class {
        OperationClass::Read => ReadKind::Object,
        OperationClass::List => ReadKind::Listing,
        OperationClass::Write => return None,
    };
    (bucket.pool.hedges() && is_read()).then_some(kind)
}

/// When an attempt that begins now is hedged.
pub(super) fn moment(bucket: &Bucket, kind: ReadKind, record: &Record, now: Instant) -> Option<Instant> {
    let attempts_max = bucket.config.upstream.retry.max_attempts.get();
    let may_hedge = record.hedged.is_none() && record.attempts < attempts_max;
    let delay = if may_hedge { bucket.pool.hedge_delay(kind) } else { None };
    delay.map(|delay| now + delay)
}

/// What an attempt holds.
pub(super) struct Held {
    pub(super) permit: Permit,
    pub(super) ticket: BreakerTicket,
}

/// An attempt that may become two.
#[derive(Clone, Copy)]
pub(super) struct Race<'a> {
    pub(super) worker: &'a Worker,
    pub(super) bucket: &'a Bucket,
    pub(super) circuit: CircuitId,
    /// Who asks for what.
    pub(super) evidence: Option<Evidence>,
    pub(super) limits: Limits,
    /// When it is hedged.
    pub(super) moment: Instant,
}

/// Makes an attempt, and if it takes long a second one beside it. What is held in the end is the winner's.
pub(super) async fn race(
    race: Race<'_>,
    outbound: &mut Outbound,
    mut held: Held,
    record: &mut Record,
) -> (Tried, Held) {
    let Race { worker, bucket, limits, moment, evidence, .. } = race;
    let flow = Rc::clone(&record.flow);
    let over = |held: &mut Held, limits, result| {
        // Reads of clients only are hedged.
        Tried::of((bucket, evidence, true), limits, &flow, (&held.permit, &mut held.ticket), result)
    };
    let Sending { call, ongoing, signed } = match send(worker, bucket, outbound, &held.permit, limits, &flow)
    {
        Ok(sending) => sending,
        Err(rejection) => return (over(&mut held, limits, Err(rejection)), held),
    };
    ongoing.ring_at(moment);
    let method = outbound.request.head().method.clone();
    let facts = CallFacts { kind: bucket.config.kind, method: &method, signed, due: limits.deadline.total };
    let mut first = pin!(run(call, Rc::clone(&ongoing), limits, (bucket, facts)).fuse());

    if let Either::Left((result, _)) = select(first.as_mut(), pin!(ongoing.rung())).await {
        return (over(&mut held, limits, result), held);
    }
    let entering = Box::pin(enter(race, outbound, held.permit.endpoint(), &flow));
    let entered = match select(first.as_mut(), entering).await {
        Either::Left((result, _)) => return (over(&mut held, limits, result), held),
        Either::Right((entered, _)) => entered,
    };
    let Entered { held: mut hedges, limits: hedge_limits, sending } = match entered {
        Ok(entered) => entered,
        Err(cause) => {
            bucket.metrics.hedges.suppressed(cause);
            let result = first.await;
            return (over(&mut held, limits, result), held);
        }
    };
    record.attempts += 1;
    record.hedged = Some(Hedged::Lost);
    bucket.metrics.hedges.sent.inc();
    let Sending { call, ongoing, signed } = sending;
    let mut second = Box::pin(run(call, ongoing, hedge_limits, (bucket, CallFacts { signed, ..facts })));
    let (tried, held) = match select(first.as_mut(), second.as_mut()).await {
        Either::Left((result, _)) => {
            let tried = over(&mut held, limits, result);
            if tried.settles() {
                return (tried, held);
            }
            held.ticket.report(tried.judged.verdict.outcome);
            drop(held.permit);
            (over(&mut hedges, hedge_limits, second.await), hedges)
        }
        Either::Right((result, _)) => {
            let tried = over(&mut hedges, hedge_limits, result);
            if !tried.settles() {
                hedges.ticket.report(tried.judged.verdict.outcome);
                drop(hedges.permit);
                let result = first.await;
                return (over(&mut held, limits, result), held);
            }
            // Its connection goes before its place does.
            first.set(Fuse::terminated());
            (tried, hedges)
        }
    };
    if tried.settles() {
        record.hedged = Some(Hedged::Won);
        bucket.metrics.hedges.won.inc();
    }
    (tried, held)
}

/// A hedge that may be sent.
struct Entered {
    held: Held,
    limits: Limits,
    sending: Sending,
}

/// Whether a hedge may be sent now that its moment has come.
async fn enter(
    race: Race<'_>,
    outbound: &mut Outbound,
    slow: EndpointId,
    flow: &Rc<Flow>,
) -> Result<Entered, Suppressed> {
    let Race { worker, bucket, circuit, .. } = race;
    if is_clients_retry(outbound.request.head().headers) {
        return Err(Suppressed::Client);
    }
    if worker.shared.actors.monitor.level() >= Level::Critical {
        return Err(Suppressed::Level);
    }
    if !matches!(bucket.breaker.peek(circuit, clock::now()), Ok(Clearance::Closed { .. })) {
        return Err(Suppressed::Breaker);
    }
    let mut permit = bucket.pool.hedge(slow).await.map_err(|refusal| match refusal {
        HedgeRefusal::Budget => Suppressed::Budget,
        HedgeRefusal::Gate => Suppressed::Gate,
        HedgeRefusal::Unavailable(_) => Suppressed::Pool,
    })?;
    identity::assume(bucket, &mut permit, worker.client(bucket).is_own(outbound.key)).await;
    let ticket = bucket.breaker.permit_if_closed(circuit).ok_or(Suppressed::Breaker)?;
    let held = Held { permit, ticket };
    let limits = Limits { began: clock::now(), ..race.limits };
    let sending = send(worker, bucket, outbound, &held.permit, limits, flow);
    let sending = sending.map_err(|_| Suppressed::Credentials)?;
    Ok(Entered { held, limits, sending })
}

/// Runs an attempt to the head of its answer; dropped before that, it takes its connection along.
async fn run(
    call: SendClientRequest,
    ongoing: Rc<Ongoing>,
    limits: Limits,
    (bucket, facts): (&Bucket, CallFacts<'_>),
) -> Result<Answered, UpstreamRejection> {
    let response = heard(watch(call, limits, &ongoing, &bucket.late).await, &ongoing.flow)?;
    head(response, facts, ongoing.socket()).await
}
