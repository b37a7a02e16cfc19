//! The attempts of one request: breaker's permit, call, verdict, and perhaps once more (R1–R5). A read that may be asked for twice
//! at a time is `hedge.rs`'s.

use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_http::body::None as NoBody;
use awc::{ClientResponse, SendClientRequest};
use tidegate_actors::{
    BreakerTicket, CircuitId, Evidence, Level, OperationClass, Outcome, Permit, RetryTicket, clock,
};
use tidegate_config::Priority;

use crate::buffers::SocketBuffers;
use crate::http::edge::Head;
use crate::http::error::GatewayError;
use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::upstream::UpstreamRejection;
use crate::upstream::blame::Attempted;
use crate::upstream::body::RequestBody;
use crate::upstream::conditional_write;
use crate::upstream::deadline::Deadline;
use crate::upstream::early::Ongoing;
use crate::upstream::error_document::ErrorDocument;
use crate::upstream::flow::Flow;
use crate::upstream::hedge::{self, Held, Race};
use crate::upstream::hold::{self, Entered, Entry};
use crate::upstream::identity::{self, Said};
use crate::upstream::misdirected;
use crate::upstream::outbound::{Outbound, Resign};
use crate::upstream::reply::{Answered, CallFacts, head, heard};
use crate::upstream::retry::{Asked, is_clients_retry, wait};
use crate::upstream::store_clock::{ClockOffset, Skew};
use crate::upstream::verdict::{self, Verdict};
use crate::upstream::watch::{Limits, watch};
use crate::worker::Worker;

/// What a request was granted: a place at the bucket's upstream, the circuit that its calls belong to, and until when.
pub(crate) struct Leave {
    /// None where it waits for the circuit first.
    pub(crate) permit: Option<Permit>,
    pub(crate) circuit: CircuitId,
    pub(crate) priority: Priority,
    pub(crate) deadline: Deadline,
    pub(crate) class: OperationClass,
}

/// An answer whose body is still to come, and what is held for it.
pub(crate) struct Called {
    pub(crate) response: ClientResponse,
    /// As much of the body as was read because its error code mattered.
    pub(crate) document: Option<ErrorDocument>,
    pub(crate) permit: Permit,
    /// Where the outcome is known only at the last byte.
    pub(crate) ticket: Option<BreakerTicket>,
    /// Of the connection that the answer comes from.
    pub(crate) socket: Option<Rc<SocketBuffers>>,
}

impl Called {
    /// The error code of an answer with an error document, where the code was read.
    pub(crate) fn error_code(&self) -> Option<String> {
        self.document.as_ref().and_then(ErrorDocument::code)
    }
}

/// Calls the upstream until an answer is worth passing on.
pub(crate) async fn call(
    worker: &Worker,
    bucket: &Bucket,
    mut outbound: Outbound,
    leave: Leave,
    record: &mut Record,
) -> Result<Called, GatewayError> {
    let Leave { permit: mut place, circuit, class, priority, deadline } = leave;
    let upstream = &bucket.config.upstream;
    // Neither a key that signs as itself nor a preflight goes on with one of the bucket's credentials.
    let needs_none = outbound.request.is_preflight() || worker.client(bucket).is_own(outbound.key);
    let read = hedge::kind(bucket, &outbound, class);
    let evidence = identity::evidence(bucket, &outbound, record);
    // Held from the leave to try again to the end of that try.
    let mut retrying: Option<(Duration, RetryTicket)> = None;
    loop {
        let is_patient = outbound.replays();
        let counts = outbound.request.counts();
        let entry = Entry { permit: place, circuit, priority, is_patient, counts, deadline: deadline.total };
        let Entered { mut permit, mut ticket, began } = hold::enter(worker, bucket, entry, record).await?;
        identity::assume(bucket, &mut permit, needs_none).await;
        let limits = Limits { began, deadline, idle: upstream.idle_timeout };
        limits.check(&record.flow).map_err(UpstreamRejection::Timeout)?;
        record.attempts += 1;
        record.endpoint = Some(permit.endpoint().0);
        record.credential = permit.credential();
        let moment = read.and_then(|kind| hedge::moment(bucket, kind, record, began));
        let tried = if let Some(moment) = moment {
            let race = Race { worker, bucket, circuit, limits, moment, evidence };
            let (tried, held) = hedge::race(race, &mut outbound, Held { permit, ticket }, record).await;
            Held { permit, ticket } = held;
            record.endpoint = Some(permit.endpoint().0);
            record.credential = permit.credential();
            tried
        } else {
            let result = attempt(worker, bucket, &mut outbound, &permit, limits, record).await;
            let attempt = (&permit, &mut ticket);
            Tried::of((bucket, evidence, counts), limits, &record.flow, attempt, result)
        };
        let ended = tried.ended;
        record.phases.first_byte = Some(ended);
        if let Some(kind) = read.filter(|_| tried.judged.verdict.outcome == Outcome::Success) {
            bucket.pool.measured(kind, ended.saturating_duration_since(began), ended);
        }

        // What it was a ticket for is over.
        drop(retrying.take());
        let mut stays = tried.is_refused();
        if let Some(ticket) = misdirected::retry(worker, bucket, &mut outbound, &tried.result, record).await {
            (retrying, stays) = (Some((Duration::ZERO, ticket)), true);
        } else if may_retry(worker, bucket, &outbound, &tried, record) {
            retrying = leave_to_retry(bucket, &mut outbound, &mut permit, (&tried, record, deadline)).await;
        }
        let Tried { result, judged, said, skew, .. } = tried;
        if let Some((pause, _)) = retrying {
            ticket.report(judged.verdict.outcome);
            drop(result);
            bucket.metrics.retry_attempts.inc();
            tokio::time::sleep(pause).await;
            if !stays {
                bucket.pool.repick(&mut permit).await?;
            }
            place = Some(permit);
            continue;
        }
        let skew = skew.filter(|skew| skew.is_named);
        let is_refused = skew.is_some() || misdirected::is_answer(&result);
        count_retries(bucket, record, &judged.verdict, is_refused);
        let rejection = said.rejection().or_else(|| skew.map(UpstreamRejection::ClockSkew));
        if let Some(rejection) = rejection {
            ticket.report(judged.verdict.outcome);
            return Err(rejection.into());
        }
        return finish(result, judged.verdict, ticket, permit);
    }
}

/// Whether an attempt that has ended may be followed by another.
fn may_retry(worker: &Worker, bucket: &Bucket, outbound: &Outbound, tried: &Tried, record: &Record) -> bool {
    let resigns = outbound.resigns(tried.skew.as_ref()).is_some();
    let is_refused = tried.said.is_setback() || resigns;
    let is_unsent = matches!(&tried.result, Err(rejection) if rejection.is_unsent());
    // A signature that was refused for its time had no effect, whatever the method.
    let replays = if resigns { outbound.has_body() } else { outbound.replays() };
    (tried.judged.verdict.transient || is_refused)
        && replays
        && record.attempts < bucket.config.upstream.retry.max_attempts.get()
        && may_repeat(outbound, is_refused || is_unsent, bucket)
        && worker.shared.actors.monitor.level() < Level::Critical
}

/// Leave of the bucket for another attempt, and the pause before it.
async fn leave_to_retry(
    bucket: &Bucket,
    outbound: &mut Outbound,
    permit: &mut Permit,
    (tried, record, deadline): (&Tried, &Record, Deadline),
) -> Option<(Duration, RetryTicket)> {
    if let Some(offset) = outbound.resigns(tried.skew.as_ref()) {
        let ticket = bucket.pool.retry().await?;
        outbound.resign = Resign::With(offset);
        return Some((Duration::ZERO, ticket));
    }
    if tried.said.is_setback() {
        return identity::go_on_as_other(bucket, permit).await;
    }
    let left = deadline.total.saturating_duration_since(tried.ended);
    let asked = tried.judged.asked.wait;
    let pause = wait(&bucket.config.upstream.retry, record.attempts + 1, asked, left)?;
    bucket.pool.retry().await.map(|ticket| (pause, ticket))
}

/// Whether a request that failed may be sent once more, as far as it is the request's to say.
fn may_repeat(outbound: &Outbound, is_untouched: bool, bucket: &Bucket) -> bool {
    let Head { method, headers, uri, .. } = outbound.request.head();
    if !is_untouched && conditional_write::is_conditional(method, headers, uri.query().unwrap_or_default()) {
        return false;
    }
    let is_clients = is_clients_retry(headers);
    if is_clients {
        bucket.metrics.retry_left_to_client.inc();
    }
    !is_clients
}

fn finish(
    result: Result<Answered, UpstreamRejection>,
    verdict: Verdict,
    ticket: BreakerTicket,
    permit: Permit,
) -> Result<Called, GatewayError> {
    let Answered { response, document, socket, .. } = match result {
        Ok(head) => head,
        Err(rejection) => {
            ticket.report(verdict.outcome);
            return Err(rejection.into());
        }
    };
    // A failure is told at once; whether a success is one is known at its last byte.
    let ticket = if verdict.outcome == Outcome::Success {
        Some(ticket)
    } else {
        ticket.report(verdict.outcome);
        None
    };
    Ok(Called { response, document, permit, ticket, socket })
}

fn count_retries(bucket: &Bucket, record: &Record, verdict: &Verdict, is_refused: bool) {
    if record.attempts - u32::from(record.hedged.is_some()) > 1 {
        if is_refused || verdict.transient || matches!(verdict.outcome, Outcome::Failure { .. }) {
            bucket.metrics.retry_exhausted.inc();
        } else {
            bucket.metrics.retry_success.inc();
        }
    }
}

/// An attempt that is over, and what it means.
pub(super) struct Tried {
    pub(super) result: Result<Answered, UpstreamRejection>,
    pub(super) judged: Judged,
    /// Of the credential that it was made with.
    said: Said,
    /// The store refused the time of the signature.
    skew: Option<Skew>,
    pub(super) ended: Instant,
}

impl Tried {
    /// Judges an attempt that has just ended, and tells the pool of it.
    pub(super) fn of(
        (bucket, evidence, counts): (&Bucket, Option<Evidence>, bool),
        limits: Limits,
        flow: &Flow,
        (permit, ticket): (&Permit, &mut BreakerTicket),
        result: Result<Answered, UpstreamRejection>,
    ) -> Self {
        let ended = clock::now();
        let waited = limits.waited(flow, ended);
        let is_long = limits.deadline.is_long;
        let slow = bucket.config.upstream.circuit_breaker.slow_call_duration.filter(|_| !is_long && counts);
        if slow.is_some_and(|slow| waited > slow) {
            ticket.drag();
        }
        let mut judged = judge(&result, bucket);
        // Some proxies answer 5xx when a client stalls its upload.
        if result.is_ok() && flow.is_stalled_by_client(ended) {
            judged.verdict.outcome = Outcome::Neutral;
        }
        // How long a store works on a copy says nothing of how it serves.
        let waited = if is_long { Duration::ZERO } else { waited };
        let attempted = Attempted { endpoint: permit.endpoint(), began: limits.began, waited };
        let told = result.as_ref().map(|answer| answer.response.status().as_u16());
        judged.verdict.outcome = match counts {
            true => attempted.settle(bucket, judged.verdict.outcome, told),
            false => Outcome::Neutral,
        };
        let answer = result.as_ref().ok().map(Answered::said);
        let said = identity::settle(bucket, permit, answer, (judged.asked.wait, evidence));
        let skew =
            result.as_ref().ok().and_then(|answer| answer.settle_clock(bucket.clock(permit.endpoint())));
        if skew.as_ref().is_some_and(|skew| skew.is_named) {
            bucket.metrics.clock_refused.inc();
        }
        // The clock of another endpoint may be right.
        let is_hopeless = skew.as_ref().is_some_and(|skew| skew.is_named && skew.resign.is_none());
        judged.verdict.transient |= is_hopeless && bucket.config.upstream.endpoints.len() > 1;
        Self { result, judged, said, skew, ended }
    }

    /// Whether the store has refused the credential or the signature, and not looked at the request.
    fn is_refused(&self) -> bool {
        self.said.is_setback() || self.skew.as_ref().is_some_and(|skew| skew.resign.is_some())
    }

    /// Whether it is an answer about the request, and not about how the upstream is.
    pub(super) fn settles(&self) -> bool {
        let is_answer = |answered: &Answered| !matches!(answered.response.status().as_u16(), 429 | 500..);
        let is_refused = self.said.is_setback() || self.skew.is_some();
        !self.judged.verdict.transient && !is_refused && self.result.as_ref().is_ok_and(is_answer)
    }
}

pub(super) struct Judged {
    pub(super) verdict: Verdict,
    asked: Asked,
}

fn judge(result: &Result<Answered, UpstreamRejection>, bucket: &Bucket) -> Judged {
    match result {
        Ok(head) => {
            let status = head.response.status().as_u16();
            let upstream = &bucket.config.upstream;
            let is_throttled = verdict::is_throttling(status, head.code.as_deref());
            let most = match is_throttled && !upstream.credentials_by_name.is_empty() {
                true => upstream.credential_pool.max_cool_down,
                false => upstream.circuit_breaker.max_timeout,
            };
            let asked = match status {
                400.. => Asked::of(head.response.headers(), clock::wall(), most),
                _ => Asked::default(),
            };
            if let Some(oddity) = asked.odd {
                bucket.metrics.odd_retry_after(oddity);
            }
            let mut verdict = verdict::of_status(status, head.code.as_deref(), asked.wait);
            verdict.transient |= head.is_broken();
            Judged { verdict, asked }
        }
        Err(rejection) => {
            if rejection.is_unsent() {
                bucket.metrics.error("upstream_connect_attempt");
            }
            Judged { verdict: verdict::of_failure(rejection), asked: Asked::default() }
        }
    }
}

/// One call, up to the head of the answer.
async fn attempt(
    worker: &Worker,
    bucket: &Bucket,
    outbound: &mut Outbound,
    permit: &Permit,
    limits: Limits,
    record: &Record,
) -> Result<Answered, UpstreamRejection> {
    let Sending { call, ongoing, signed } = send(worker, bucket, outbound, permit, limits, &record.flow)?;
    let response = match heard(watch(call, limits, &ongoing, &bucket.late).await, &ongoing.flow) {
        Ok(response) => response,
        Err(rejection) => {
            if let Some(untouched) = ongoing.reclaim() {
                outbound.body = RequestBody::Stream(Some(untouched));
            }
            return Err(rejection);
        }
    };
    let method = outbound.request.head().method;
    let facts = CallFacts { kind: bucket.config.kind, method, signed, due: limits.deadline.total };
    head(response, facts, ongoing.socket()).await
}

/// A call that begins when it is polled.
pub(super) struct Sending {
    pub(super) call: SendClientRequest,
    pub(super) ongoing: Rc<Ongoing>,
    /// The offset of the clock that it is signed with; none where it is not signed.
    pub(super) signed: Option<ClockOffset>,
}

/// Sends a request, as soon as what is returned is polled.
pub(super) fn send(
    worker: &Worker,
    bucket: &Bucket,
    outbound: &mut Outbound,
    permit: &Permit,
    limits: Limits,
    flow: &Rc<Flow>,
) -> Result<Sending, UpstreamRejection> {
    let client = worker.client(bucket);
    let destination = &bucket.destinations[permit.endpoint().0];
    let signer = match outbound.request.is_preflight() {
        true => None,
        false => client.signer(outbound.key, &bucket.credentials, permit.credential())?,
    };
    let clock = bucket.clock(permit.endpoint());
    let signed =
        signer.as_ref().map(|_| outbound.resign.take().unwrap_or_else(|| clock.offset(limits.began)));
    let signer = signer.as_deref().zip(signed);
    let request = outbound
        .build(client, (signer, permit.credential()), destination, (limits.deadline, limits.began))
        .ok_or(UpstreamRejection::Target)?;
    let (sending, upload) = match &mut outbound.body {
        RequestBody::None => (request.send_body(NoBody::new()), None),
        RequestBody::Whole(bytes) => (request.send_body(bytes.clone()), None),
        RequestBody::Stream(upload) => {
            let upload = upload.take().ok_or(UpstreamRejection::ClientGone)?;
            let now = clock::now();
            flow.begin(now);
            flow.begin_transfer(&worker.transfers, now);
            // The connection sends it, see `pump.rs`.
            (request.send_body(NoBody::new()), Some(upload))
        }
    };
    Ok(Sending { call: sending, ongoing: Ongoing::new(Rc::clone(flow), upload), signed })
}
