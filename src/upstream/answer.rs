//! The answer on its way to the client, with everything that is held until its last byte.
//!
//! The slot, the permit, the breaker's ticket and the record live in the body, so they end with it: whole, broken or
//! dropped because the client left. A body that ends before its length, or by a close that may not end it, is an
//! error, and the client's connection is closed without a terminator: a short body never looks whole (T6). So is one that
//! is not what its checksum says (I1), which is known before its last piece is handed on.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use thiserror::Error;
use tidegate_actors::{BreakerTicket, BucketId, Cause, Outcome, Permit, Slot, clock};
use tidegate_config::Kind;
use tokio::time::Sleep;

use crate::buffers::{Gate, LARGE_BODY_BYTES};
use crate::http::answer::REQUEST_ID;
use crate::s3::checksum::down::Answered;
use crate::s3::checksum::renewed;
use crate::s3::late_error::LateError;
use crate::telemetry::record::Record;
use crate::upstream::answer_source::{Ending, Source, is_close};
use crate::upstream::answer_transfer::{AnswerTransfer, Moved};
use crate::upstream::appended::Errors;
use crate::upstream::blame;
use crate::upstream::call::Called;
use crate::upstream::error_document::{ErrorDocument, Rest};
use crate::upstream::headers::{Nominated, travels_down};
use crate::upstream::proxy_body::ProxyBody;
use crate::upstream::renamed::{RenamedBody, Renaming};
use crate::worker::Worker;

/// Why a transfer broke.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    /// The upstream closed too early.
    #[error("the upstream ended after {received} of {expected} bytes")]
    Short {
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        expected: u64,
    },
    /// The upstream's connection broke.
    #[error("the upstream's connection broke: {0}")]
    Broken(PayloadError),
    /// The body is not the object it says it is.
    #[error("the upstream's body does not have the checksum in its {0}")]
    Checksum(&'static str),
    /// No byte for too long.
    #[error("the upstream sent nothing for {0:?}")]
    Idle(Duration),
    /// The transfer was cut.
    #[error("memory is exhausted, and this is one of the heaviest transfers")]
    Memory,
}

/// What is held to the last byte.
struct Held {
    record: Box<Record>,
    ticket: Option<BreakerTicket>,
    permit: Permit,
    _slot: Slot,
}

/// The upstream's body.
pub(crate) struct AnswerBody {
    source: Source,
    size: BodySize,
    ending: Ending,
    received: u64,
    idle: Duration,
    moved: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    late_error: Option<LateError>,
    checksum: Option<Answered>,
    transfer: AnswerTransfer,
    held: Option<Held>,
    worker: Rc<Worker>,
}

/// An upstream's answer on its way.
pub(crate) struct Passing {
    pub(crate) called: Called,
    pub(crate) bucket: BucketId,
    pub(crate) slot: Slot,
    /// Whether a 200 may turn out to be an error document.
    pub(crate) late: bool,
    /// What the upstream calls otherwise than the client.
    pub(crate) renaming: Option<Renaming>,
    /// Errors of objects that were taken out of a multi-delete.
    pub(crate) errors: Option<Errors>,
}

/// Builds the client's answer from the upstream's.
pub(crate) fn pass_on(
    worker: &Rc<Worker>,
    passing: Passing,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    let Passing { called, bucket, slot, late, renaming, errors } = passing;
    let Called { response: upstream, document, permit, ticket, socket } = called;
    let bucket = worker.shared.router.bucket(bucket);
    let destination = &bucket.destinations[permit.endpoint().0];
    let status = upstream.status();
    let headers = upstream.headers();
    let mut response = HttpResponse::new(status);
    let nominated = Nominated::of(headers);
    for (name, value) in headers {
        let replaced = bucket.config.cors.is_some() && name.as_str().starts_with("access-control-");
        if replaced {
            continue;
        }
        if travels_down(name, &nominated) || (*name == CONTENT_LENGTH && status == StatusCode::NOT_MODIFIED) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response.headers_mut().insert(REQUEST_ID, record.id.clone());
    record.status = status.as_u16();
    let ending = match &document {
        Some(ErrorDocument { bytes, rest: Rest::Nothing }) => Ending::Length(bytes.len() as u64),
        Some(_) | None => Ending::of(headers, status, &record.request.method),
    };
    let is_object = status.as_u16() == 200 && record.request.method == Method::GET;
    let checksum = if is_object && bucket.config.kind == Kind::S3 { Answered::of(headers) } else { None };
    let mut body = AnswerBody {
        transfer: AnswerTransfer::new(socket),
        size: ending.size(headers, &record.request.method),
        source: Source::of(upstream, document),
        ending,
        received: 0,
        idle: bucket.config.upstream.idle_timeout,
        moved: record.phases.first_byte.unwrap_or(record.started),
        timer: None,
        late_error: late.then(LateError::default),
        checksum,
        held: Some(Held { record, ticket, permit, _slot: slot }),
        worker: Rc::clone(worker),
    };
    if matches!(ending, Ending::Length(bytes) if bytes > LARGE_BODY_BYTES) {
        let progress = body.held.as_ref().and_then(|held| held.record.progress.as_ref());
        body.transfer.begin(worker, progress, clock::now());
    }
    let body = Box::new(body);
    let renamer = renaming.and_then(|renaming| renaming.apply(destination, status, response.headers_mut()));
    let errors = errors.filter(|_| status.is_success());
    if renamer.is_some() || errors.is_some() {
        renewed::remove(response.headers_mut());
    }
    let body = match renamer {
        Some(renamer) => ProxyBody::Renamed(Box::new(RenamedBody::new(body, renamer))),
        None => ProxyBody::Upstream(body),
    };
    response.set_body(body.appending(errors))
}

impl AnswerBody {
    /// A piece of the body came.
    fn moved(&mut self, bytes: usize) {
        let left = match self.ending {
            Ending::Length(length) => Some(length.saturating_sub(self.received)),
            Ending::Chunked | Ending::Close | Ending::Nothing => None,
        };
        let progress = self.held.as_ref().and_then(|held| held.record.progress.as_ref());
        let moved = Moved { bytes, received: self.received, left, now: self.moved };
        self.transfer.moved(&self.worker, progress, &moved);
    }

    fn whole(&mut self) {
        let Some(held) = self.held.take() else { return };
        let Held { mut record, ticket, permit, _slot } = held;
        let late = self.late_error.as_ref().is_some_and(LateError::found);
        let Some(bucket) = record.bucket.map(|id| self.worker.shared.router.bucket(id)) else { return };
        if let Some(ticket) = ticket {
            if late {
                record.reason = Some("late_error");
                let is_stores = self.late_error.as_ref().is_some_and(LateError::is_stores);
                let outcome = if is_stores { failed(Cause::Status(200)) } else { Outcome::Neutral };
                ticket.report(blame::lay(bucket, permit.endpoint(), outcome, self.moved));
            } else {
                ticket.report(Outcome::Success);
            }
        }
        // A preflight says nothing of the endpoint.
        if !late && record.status < 500 && record.preflight.is_none() {
            bucket.pool.succeeded(permit.endpoint());
        }
        bucket.pool.finish(permit, self.moved);
    }

    fn broken(&mut self, error: TransferError) -> TransferError {
        self.source = Source::Ended;
        if let Some(mut held) = self.held.take() {
            let (reason, cause) = match &error {
                TransferError::Short { .. } => ("short_answer", Cause::Reset),
                TransferError::Broken(_) => ("broken_answer", Cause::Reset),
                TransferError::Checksum(_) => ("answer_checksum", Cause::Decode),
                TransferError::Idle(_) => ("timeout_idle", Cause::Timeout),
                TransferError::Memory => ("memory_pressure", Cause::Reset),
            };
            held.record.reason = Some(reason);
            slog::warn!(self.worker.shared.log, "transfer broken"; "id" => held.record.id.to_str().unwrap_or_default(),
                "error" => error.to_string());
            let bucket = held.record.bucket.map(|id| self.worker.shared.router.bucket(id));
            let began = held.record.phases.first_byte.unwrap_or(held.record.started);
            // An upstream may give up on a gateway that stopped reading. Without a ticket the outcome was reported with the head.
            let is_settled = self.transfer.has_paused() || held.ticket.is_none();
            let outcome = match bucket {
                _ if is_settled => Outcome::Neutral,
                Some(bucket) => blame::lay(bucket, held.permit.endpoint(), failed(cause), began),
                None => failed(cause),
            };
            if let Some(ticket) = held.ticket.take() {
                ticket.report(outcome);
            }
        }
        error
    }

    /// awc gives a connection back as it reads the end of a body. So a body whose last byte is here is not read to its
    /// end if its connection would be one idle too many, or has promised to receive more than an idle one may: dropped with it, the
    /// connection closes.
    fn close_surplus(&mut self) {
        let Some(id) = self.held.as_ref().and_then(|held| held.record.bucket) else { return };
        if self.ending != Ending::Length(self.received) || !matches!(self.source, Source::Stream(_)) {
            return;
        }
        let shared = &self.worker.shared;
        let bucket = shared.router.bucket(id);
        let idle_max = bucket.config.upstream.connection_pool.max_idle;
        let open = shared.connections[id.index()].open();
        // This request's own permit is still out, so its connection is not among the idle.
        let is_surplus = open > idle_max && open.saturating_sub(bucket.pool.in_flight()) >= idle_max;
        if is_surplus || self.transfer.has_open_window() {
            self.source = Source::Ended;
            self.whole();
        }
    }

    /// Whether the body that has just ended is the object it says it is.
    fn check(&mut self) -> Result<(), TransferError> {
        match self.checksum.take().map(Answered::verify) {
            Some(Err(header)) => Err(self.broken(TransferError::Checksum(header))),
            _ => Ok(()),
        }
    }

    /// Whether the end of the stream is the end of the body.
    fn ended(&mut self) -> Poll<Option<Result<Bytes, TransferError>>> {
        if let Ending::Length(expected) = self.ending
            && self.received < expected
        {
            let error = TransferError::Short { received: self.received, expected };
            return Poll::Ready(Some(Err(self.broken(error))));
        }
        if let Err(error) = self.check() {
            return Poll::Ready(Some(Err(error)));
        }
        self.whole();
        self.source = Source::Ended;
        Poll::Ready(None)
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        let due = self.transfer.after_pause(self.moved) + self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
        while timer.as_mut().poll(cx).is_ready() {
            if due <= clock::now() {
                let error = TransferError::Idle(self.idle);
                return Poll::Ready(Some(Err(self.broken(error))));
            }
            timer.as_mut().reset(due.into());
        }
        Poll::Pending
    }
}

fn failed(cause: Cause) -> Outcome {
    Outcome::Failure { cause, retry_after: None }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // A body without bytes is never polled. Any other dropped before its last byte means that the client left, or
        // that the drain time is up, which says nothing about the upstream (B3): the ticket goes back unused.
        if self.ending == Ending::Nothing || self.ending == Ending::Length(self.received) {
            self.whole();
        } else if let Some(held) = &mut self.held {
            held.record.unfinished();
        }
    }
}

impl MessageBody for AnswerBody {
    type Error = TransferError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        let this = self.get_mut();
        if ready!(this.transfer.poll_gate(cx)) == Gate::Cut {
            // The connection ends the answer, and the record says why.
            return Poll::Ready(Some(Err(TransferError::Memory)));
        }
        if matches!(this.source, Source::Ended) {
            return Poll::Ready(None);
        }
        match this.source.poll(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                this.moved = clock::now();
                this.received += chunk.len() as u64;
                this.moved(chunk.len());
                if let Some(checksum) = &mut this.checksum {
                    checksum.update(&chunk);
                }
                if this.ending == Ending::Length(this.received)
                    && let Err(error) = this.check()
                {
                    return Poll::Ready(Some(Err(error)));
                }
                if let Some(scan) = &mut this.late_error {
                    scan.look(&chunk);
                }
                if let Some(held) = &mut this.held {
                    held.record.sent_bytes = this.received;
                }
                this.close_surplus();
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => {
                if is_close(&error) && matches!(this.ending, Ending::Close | Ending::Length(_)) {
                    return this.ended();
                }
                let error = TransferError::Broken(error);
                Poll::Ready(Some(Err(this.broken(error))))
            }
            Poll::Ready(None) => this.ended(),
            Poll::Pending => this.idle(cx),
        }
    }
}
