//! The attempts of one request: breaker's permit, call, verdict, and perhaps once more (R1–R5).

use std::rc::Rc;
use std::time::Duration;

use actix_http::body::None as NoBody;
use actix_web::error::ParseError;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tidegate_actors::{BreakerTicket, CircuitId, Level, Outcome, Permit, RetryTicket, clock};
use tidegate_config::{Kind, Priority};

use crate::http::edge::Head;
use crate::http::error::GatewayError;
use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::upstream::UpstreamRejection;
use crate::upstream::blame::Attempted;
use crate::upstream::body::RequestBody;
use crate::upstream::deadline::Deadline;
use crate::upstream::early::Ongoing;
use crate::upstream::hold::{self, Entered, Entry};
use crate::upstream::identity;
use crate::upstream::outbound::Outbound;
use crate::upstream::retry::{Asked, is_clients_retry, is_conditional_write, wait};
use crate::upstream::tls::is_distrust;
use crate::upstream::verdict::{self, Verdict};
use crate::upstream::watch::{Limits, Phase, watch};
use crate::worker::Worker;

/// Error documents up to this size are read for their code.
const DOCUMENT_BYTES_MAX: u64 = 8 << 10;
/// How long such a document may take.
const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(1);

/// What a request was granted: a place at the bucket's upstream, the circuit that its calls belong to, and until when.
pub(crate) struct Leave {
    /// None where it waits for the circuit first.
    pub(crate) permit: Option<Permit>,
    pub(crate) circuit: CircuitId,
    pub(crate) priority: Priority,
    pub(crate) deadline: Deadline,
}

/// An answer whose body is still to come, and what is held for it.
pub(crate) struct Called {
    pub(crate) response: ClientResponse,
    /// The whole body, where it was read because its error code mattered.
    pub(crate) document: Option<Bytes>,
    pub(crate) permit: Permit,
    /// Where the outcome is known only at the last byte.
    pub(crate) ticket: Option<BreakerTicket>,
}

/// Calls the upstream until an answer is worth passing on.
pub(crate) async fn call(
    worker: &Worker,
    bucket: &Bucket,
    mut outbound: Outbound,
    leave: Leave,
    record: &mut Record,
) -> Result<Called, GatewayError> {
    let Leave { permit: mut place, circuit, priority, deadline } = leave;
    let upstream = &bucket.config.upstream;
    let monitor = &worker.shared.actors.monitor;
    let is_own = worker.client(bucket).is_own(outbound.key);
    // Held from the leave to try again to the end of that try.
    let mut retrying: Option<(Duration, RetryTicket)> = None;
    loop {
        let is_patient = outbound.replays();
        let entry = Entry { permit: place, circuit, priority, is_patient, deadline: deadline.total };
        let Entered { mut permit, mut ticket, began } = hold::enter(worker, bucket, entry, record).await?;
        identity::assume(bucket, &mut permit, is_own).await;
        let limits = Limits { began, deadline, idle: upstream.idle_timeout };
        limits.check(&record.flow).map_err(UpstreamRejection::Timeout)?;
        record.attempts += 1;
        record.endpoint = Some(permit.endpoint().0);
        record.credential = permit.credential();
        let result = attempt(worker, bucket, &mut outbound, &permit, limits, record).await;
        let ended = clock::now();
        record.phases.first_byte = Some(ended);
        let waited = limits.waited(&record.flow, ended);
        let slow = upstream.circuit_breaker.slow_call_duration.filter(|_| !deadline.is_long);
        if slow.is_some_and(|slow| waited > slow) {
            ticket.drag();
        }
        let mut judged = judge(&result, bucket);
        // How long a store works on a copy says nothing of how it serves.
        let waited = if deadline.is_long { Duration::ZERO } else { waited };
        let attempted = Attempted { endpoint: permit.endpoint(), began, waited };
        let told = result.as_ref().map(|answer| answer.response.status().as_u16());
        judged.verdict.outcome = attempted.settle(bucket, judged.verdict.outcome, told);
        let answer = result.as_ref().ok().map(Answered::said);
        let said = identity::settle(bucket, &permit, answer, judged.asked.wait);

        let is_untouched = said.is_setback() || matches!(&result, Err(rejection) if rejection.is_unsent());
        let may_retry = (judged.verdict.transient || said.is_setback())
            && record.attempts < upstream.retry.max_attempts.get()
            && may_repeat(&outbound, is_untouched, bucket)
            && monitor.level() < Level::Critical;
        // What it was a ticket for is over.
        drop(retrying.take());
        if may_retry && said.is_setback() {
            retrying = identity::go_on_as_other(bucket, &mut permit).await;
        } else if may_retry {
            let left = deadline.total.saturating_duration_since(ended);
            if let Some(pause) = wait(&upstream.retry, record.attempts + 1, judged.asked.wait, left) {
                retrying = bucket.pool.retry().await.map(|ticket| (pause, ticket));
            }
        }
        if let Some((pause, _)) = retrying {
            ticket.report(judged.verdict.outcome);
            drop(result);
            bucket.metrics.retry_attempts.inc();
            tokio::time::sleep(pause).await;
            if !said.is_setback() {
                bucket.pool.repick(&mut permit).await?;
            }
            place = Some(permit);
            continue;
        }
        count_retries(bucket, record.attempts, &judged.verdict);
        if let Some(rejection) = said.rejection(bucket.config.kind) {
            ticket.report(judged.verdict.outcome);
            return Err(rejection.into());
        }
        return finish(result, judged.verdict, ticket, permit);
    }
}

/// Whether a request that failed may be sent once more, as far as it is the request's to say.
fn may_repeat(outbound: &Outbound, is_untouched: bool, bucket: &Bucket) -> bool {
    let Head { method, headers, .. } = outbound.request.head();
    if !outbound.replays() || (!is_untouched && is_conditional_write(method, headers)) {
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
    let Answered { response, document, code: _ } = match result {
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
    Ok(Called { response, document, permit, ticket })
}

fn count_retries(bucket: &Bucket, attempts: u32, verdict: &Verdict) {
    if attempts > 1 {
        if verdict.transient || matches!(verdict.outcome, Outcome::Failure { .. }) {
            bucket.metrics.retry_exhausted.inc();
        } else {
            bucket.metrics.retry_success.inc();
        }
    }
}

/// An answer up to its head.
struct Answered {
    response: ClientResponse,
    document: Option<Bytes>,
    code: Option<String>,
}

impl Answered {
    /// Its status, and the error code if it was looked at.
    fn said(&self) -> (u16, Option<&str>) {
        (self.response.status().as_u16(), self.code.as_deref())
    }
}

struct Judged {
    verdict: Verdict,
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
            let verdict = verdict::of_status(status, head.code.as_deref(), asked.wait);
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
    let client = worker.client(bucket);
    let destination = &bucket.destinations[permit.endpoint().0];
    let signer = client.signer(outbound.key, &bucket.credentials, permit.credential())?;
    let prefix = &bucket.config.upstream.endpoints[permit.endpoint().0].path_prefix;
    let kind = bucket.config.kind;
    let request = outbound
        .build(
            client,
            (signer.as_deref(), permit.credential()),
            (destination, prefix),
            kind,
            (limits.deadline, limits.began),
        )
        .ok_or(UpstreamRejection::Target)?;
    let flow = Rc::clone(&record.flow);
    let (sending, upload) = match &mut outbound.body {
        RequestBody::None => (request.send_body(NoBody::new()), None),
        RequestBody::Whole(bytes) => (request.send_body(bytes.clone()), None),
        RequestBody::Stream(upload) => {
            let upload = upload.take().ok_or(UpstreamRejection::ClientGone)?;
            flow.begin(clock::now());
            // The connection sends it, see `pump.rs`.
            (request.send_body(NoBody::new()), Some(upload))
        }
    };
    let ongoing = Ongoing::new(Rc::clone(&flow), upload);
    let sent = watch(sending, limits, &ongoing).await.map_err(UpstreamRejection::Timeout);
    let heard =
        sent.and_then(|sent| sent.map_err(|error| flow.take_fault().unwrap_or_else(|| fault(&error))));
    let response = match heard {
        Ok(response) => response,
        Err(rejection) => {
            if let Some(untouched) = ongoing.reclaim() {
                outbound.body = RequestBody::Stream(Some(untouched));
            }
            return Err(rejection);
        }
    };
    let is_pooled = permit.credential().is_some();
    head(response, (kind, is_pooled), outbound.request.head().method).await
}

async fn head(
    mut response: ClientResponse,
    (kind, is_pooled): (Kind, bool),
    method: &Method,
) -> Result<Answered, UpstreamRejection> {
    // S3 redirects to another of its own endpoints or regions. Followed by the client, it would lead past the gateway;
    // followed by the gateway, it would let the upstream choose who gets its requests (H4). An API's redirects are its own.
    if kind == Kind::S3 && matches!(response.status().as_u16(), 300..=303 | 305..=399) {
        return Err(UpstreamRejection::Redirect(response.status()));
    }
    let status = response.status().as_u16();
    let is_told_by_code = matches!(status, 400 | 503) || (is_pooled && identity::is_told_by_code(status));
    let worth_a_look = kind == Kind::S3 && method != Method::HEAD && is_told_by_code;
    if !worth_a_look || !is_small_xml(response.headers()) {
        return Ok(Answered { response, document: None, code: None });
    }
    let document = read_document(&mut response).await?;
    let code = verdict::error_code(&document);
    Ok(Answered { response, document: Some(document), code })
}

fn is_small_xml(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(CONTENT_TYPE).is_some_and(|kind| kind.contains("xml"))
        && text(CONTENT_LENGTH)
            .is_none_or(|length| length.parse().is_ok_and(|bytes: u64| bytes <= DOCUMENT_BYTES_MAX))
}

async fn read_document(body: &mut ClientResponse) -> Result<Bytes, UpstreamRejection> {
    let read = async {
        let mut document = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| UpstreamRejection::Reset(error.to_string()))?;
            document.extend_from_slice(&chunk);
            if document.len() as u64 > DOCUMENT_BYTES_MAX {
                return Err(UpstreamRejection::Decode("an error document larger than 8 KiB".to_owned()));
            }
        }
        Ok(document.freeze())
    };
    tokio::time::timeout(DOCUMENT_TIME_MAX, read)
        .await
        .map_err(|_| UpstreamRejection::Timeout(Phase::Idle))?
}

fn fault(error: &SendRequestError) -> UpstreamRejection {
    match error {
        SendRequestError::Connect(ConnectError::Timeout) => UpstreamRejection::Timeout(Phase::Connect),
        SendRequestError::Connect(ConnectError::Disconnected) => {
            UpstreamRejection::Reset("disconnected".to_owned())
        }
        SendRequestError::Connect(ConnectError::Io(error)) if is_distrust(error) => {
            UpstreamRejection::Distrust(error.to_string())
        }
        SendRequestError::Connect(error) => UpstreamRejection::Connect(error.to_string()),
        SendRequestError::Send(error) => UpstreamRejection::Reset(error.to_string()),
        SendRequestError::Response(ParseError::Io(error)) => UpstreamRejection::Reset(error.to_string()),
        SendRequestError::Response(error) => UpstreamRejection::Decode(error.to_string()),
        SendRequestError::Timeout => UpstreamRejection::Timeout(Phase::FirstByte),
        other => UpstreamRejection::Reset(other.to_string()),
    }
}
