//! The response body on its way to the client. It owns what is held until the last byte.
//!
//! The in-flight slot, the permit, the breaker ticket and the record are part of the body and end with it: complete,
//! broken, or dropped because the client left. A body that ends before its length, or by a close that may not end it,
//! is an error, and the client connection is closed without a terminator: a truncated body never looks complete (T6).
//! The same holds for a body that does not match its checksum (I1). The checksum is verified before the last piece is
//! forwarded.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use tidegate_actors::{BreakerTicket, BucketId, FailureCause, InFlightSlot, Outcome, Permit, clock};
use tidegate_config::Kind;
use tidegate_s3::checksum::body_digests;
use tidegate_s3::checksum::response_checksum::ResponseChecksum;
use tidegate_s3::late_error::LateErrorScan;

use crate::boxed::boxed;
use crate::buffers::{LARGE_BODY_BYTES, TransferGate};
use crate::request_head::{HeaderEditor, HeaderView};
use crate::upstream::RequestHost;
use crate::upstream::bucket::{Bucket, failure_attribution};
use crate::upstream::exchange::memory;
use crate::upstream::exchange::response_framing::UpstreamFraming;
use crate::upstream::headers::filter::{ConnectionOptions, forwards_to_client};
use crate::upstream::headers::names::REQUEST_ID;
use crate::upstream::record::Record;
use crate::upstream::response::UpstreamResponse;
use crate::upstream::response::appended_errors::DeniedErrors;
use crate::upstream::response::error_document::{ErrorDocumentPrefix, RemainingBody};
use crate::upstream::response::event_stream::EventStream;
use crate::upstream::response::idle_time::{IdleEvent, IdleTime};
use crate::upstream::response::proxy_body::ProxyBody;
use crate::upstream::response::rename_plan::{RenamePlan, RenamedBody};
use crate::upstream::response::source::{ResponseSource, is_connection_close};
use crate::upstream::response::transfer::{ReceivedPiece, ResponseTransfer};
use crate::upstream::response::transfer_error::TransferError;
use crate::upstream::rules::outcome::failure;

/// Held until the last byte.
struct RequestGuards {
    record: Box<Record>,
    ticket: Option<BreakerTicket>,
    permit: Permit,
    _slot: InFlightSlot,
}

/// The upstream's body.
pub(crate) struct ResponseBody {
    body: ResponseSource,
    size: BodySize,
    framing: UpstreamFraming,
    received: u64,
    idle: IdleTime,
    late_error: Option<LateErrorScan>,
    checksum: Option<ResponseChecksum>,
    /// Whether nothing inspects or changes its bytes, so that they may pass through a pipe.
    is_opaque: bool,
    transfer: ResponseTransfer,
    /// Set if the gateway may end the body.
    event_stream: Option<Box<EventStream>>,
    guards: Option<RequestGuards>,
    host: Rc<dyn RequestHost>,
}

/// An upstream response to forward.
pub(crate) struct ResponseForward {
    pub(crate) response: UpstreamResponse,
    pub(crate) bucket: BucketId,
    pub(crate) slot: InFlightSlot,
    /// Whether a 200 may contain an error document.
    pub(crate) may_have_late_error: bool,
    /// The names that differ between upstream and client.
    pub(crate) renaming: Option<Box<RenamePlan>>,
    /// Errors of objects that were removed from a multi-delete.
    pub(crate) denied_errors: Option<Box<DeniedErrors>>,
}

/// Builds the client's response from the upstream's.
pub(crate) fn forward_response(
    host: Rc<dyn RequestHost>,
    forward: ResponseForward,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    let ResponseForward { response: call, bucket, slot, may_have_late_error, renaming, denied_errors } =
        forward;
    let UpstreamResponse { response: mut upstream, error_document, permit, ticket } = call;
    let bucket = host.bucket(bucket);
    let destination = &bucket.destinations[permit.endpoint().0];
    let status = upstream.status();
    let headers = upstream.headers();
    record.status = status.as_u16();
    let framing = match &error_document {
        Some(ErrorDocumentPrefix { bytes, remaining: RemainingBody::Complete }) => {
            UpstreamFraming::Length(bytes.len() as u64)
        }
        Some(_) | None => upstream.framing(),
    };
    let is_object = status.as_u16() == 200 && record.request.method == Method::GET;
    let checksum = if is_object && bucket.config.kind == Kind::S3 {
        ResponseChecksum::from_headers(HeaderView::of(headers))
    } else {
        None
    };
    let size = framing.body_size(headers, &record.request.method);
    let event_stream = EventStream::of(&*host, headers, framing, &record);
    let mut response = HttpResponse::new(status);
    let forwarded = forwarded_headers(upstream.take_headers(), bucket, status);
    memory::keep_headers(mem::replace(response.headers_mut(), forwarded));
    response.headers_mut().insert(REQUEST_ID, record.id.clone());
    let mut body = boxed!(ResponseBody {
        transfer: ResponseTransfer::new(Some(Rc::clone(upstream.socket())), record.stream_owner()),
        size,
        body: ResponseSource::of(upstream, error_document),
        framing,
        received: 0,
        idle: IdleTime::new(
            bucket.config.upstream.idle_timeout,
            record.phases.first_byte.unwrap_or(record.started),
        ),
        late_error: may_have_late_error.then(LateErrorScan::default),
        is_opaque: !may_have_late_error && checksum.is_none() && event_stream.is_none(),
        checksum,
        event_stream,
        guards: Some(RequestGuards { record, ticket, permit, _slot: slot }),
        host: Rc::clone(&host),
    });
    let progress = body.guards.as_ref().and_then(|guards| guards.record.send_progress.as_ref());
    match framing {
        UpstreamFraming::Length(bytes) if bytes > LARGE_BODY_BYTES => {
            body.transfer.begin(&*host, progress, clock::now());
        }
        UpstreamFraming::Chunked | UpstreamFraming::Close => body.transfer.begin_revocable(&*host, progress),
        UpstreamFraming::Length(_) | UpstreamFraming::NoBody => {}
    }
    let renamer = renaming.and_then(|renaming| renaming.apply(destination, status, response.headers_mut()));
    let errors = denied_errors.filter(|_| status.is_success());
    if renamer.is_some() || errors.is_some() {
        body_digests::remove(&mut HeaderEditor(response.headers_mut()));
        body.is_opaque = false;
    }
    let body = match renamer {
        Some(renamer) => ProxyBody::Renamed(Box::new(RenamedBody::new(body, renamer))),
        None => ProxyBody::Upstream(body),
    };
    response.set_body(body.with_denied_errors(errors))
}

/// The headers for the client, of those from the upstream. They are moved: copies of all would cost more than the removal of a few.
fn forwarded_headers(mut headers: HeaderMap, bucket: &Bucket, status: StatusCode) -> HeaderMap {
    let nominated = ConnectionOptions::of(&headers);
    let has_rules = bucket.config.cors.is_some();
    headers.retain(|name, _| {
        let is_replaced = has_rules && name.as_str().starts_with("access-control-");
        let keeps_length = *name == CONTENT_LENGTH && status == StatusCode::NOT_MODIFIED;
        !is_replaced && (keeps_length || forwards_to_client(name, &nominated))
    });
    headers
}

impl ResponseBody {
    /// Records received bytes of the body.
    fn record_bytes(&mut self, bytes: usize) {
        let now = clock::now();
        self.idle.record_bytes(now);
        self.received += bytes as u64;
        let left = match self.framing {
            UpstreamFraming::Length(length) => Some(length.saturating_sub(self.received)),
            UpstreamFraming::Chunked | UpstreamFraming::Close | UpstreamFraming::NoBody => None,
        };
        let progress = self.guards.as_ref().and_then(|guards| guards.record.send_progress.as_ref());
        let piece = ReceivedPiece { bytes, received: self.received, left, now };
        self.transfer.record_bytes(&*self.host, progress, &piece);
    }

    /// Passes the next bytes to the client's connection in a pipe, with an empty piece in their place. None if they must be read.
    fn poll_piped(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let progress = self.guards.as_ref().and_then(|guards| guards.record.send_progress.as_ref());
        let accepts = self.is_opaque && progress.is_some_and(|progress| progress.pipe.is_accepted());
        let Some(max) = self.transfer.splice_max().filter(|_| accepts) else { return Poll::Ready(None) };
        let piped = match ready!(self.body.poll_piped(cx, max)) {
            Ok(Some(piped)) => piped,
            Ok(None) => return Poll::Ready(None),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        self.record_bytes(piped.bytes());
        self.transfer.count_spliced(piped.bytes());
        if let Some(RequestGuards { record, .. }) = &mut self.guards
            && let Some(progress) = &record.send_progress
        {
            record.sent_bytes = self.received;
            progress.pipe.put(piped);
        }
        Poll::Ready(Some(Ok(Bytes::new())))
    }

    fn finish(&mut self) {
        let Some(guards) = self.guards.take() else { return };
        let RequestGuards { mut record, ticket, permit, _slot } = guards;
        let is_late_error = self.late_error.as_ref().is_some_and(LateErrorScan::is_error);
        let Some(bucket) = record.bucket.map(|id| self.host.bucket(id)) else { return };
        if let Some(ticket) = ticket {
            if is_late_error {
                record.reason = Some("late_error");
                let is_store_fault = self.late_error.as_ref().is_some_and(LateErrorScan::is_store_fault);
                let outcome =
                    if is_store_fault { failure(FailureCause::Status(200)) } else { Outcome::Neutral };
                ticket.report(failure_attribution::attribute(
                    bucket,
                    permit.endpoint(),
                    outcome,
                    self.idle.last_bytes(),
                ));
            } else {
                ticket.report(Outcome::Success);
            }
        }
        // A preflight is no evidence about the endpoint.
        if !is_late_error && record.status < 500 && record.preflight.is_none() {
            bucket.pool.report_success(permit.endpoint());
        }
        bucket.pool.release(permit, self.idle.last_bytes());
    }

    fn fail(&mut self, error: TransferError) -> TransferError {
        self.body = ResponseSource::Ended;
        if let Some(mut guards) = self.guards.take() {
            let (reason, cause) = match &error {
                TransferError::Short { .. } => ("short_answer", FailureCause::Reset),
                TransferError::Broken(_) => ("broken_answer", FailureCause::Reset),
                TransferError::Checksum(_) => ("answer_checksum", FailureCause::Decode),
                TransferError::Idle(_) => ("timeout_idle", FailureCause::Timeout),
                TransferError::Cut(cut) => (cut.reason(), FailureCause::Reset),
            };
            guards.record.reason = Some(reason);
            if let TransferError::Idle(limit) = error {
                let waited = self.idle.idle_for(&self.transfer);
                guards.record.set_idle_timeout(waited, limit);
            }
            slog::warn!(self.host.log(), "transfer broken"; "id" => guards.record.id.to_str().unwrap_or_default(),
                "error" => error.to_string());
            let bucket = guards.record.bucket.map(|id| self.host.bucket(id));
            let began = guards.record.phases.first_byte.unwrap_or(guards.record.started);
            // An upstream may give up on a gateway that paused reading. Without a ticket the outcome was reported
            // with the response head.
            let is_reported = self.transfer.has_paused() || guards.ticket.is_none();
            let outcome = match bucket {
                _ if is_reported => Outcome::Neutral,
                Some(bucket) => {
                    failure_attribution::attribute(bucket, guards.permit.endpoint(), failure(cause), began)
                }
                None => failure(cause),
            };
            if let Some(ticket) = guards.ticket.take() {
                ticket.report(outcome);
            }
        }
        error
    }

    /// Whether the drain ends the stream now. Then its call is cancelled, which is no outcome of the upstream.
    fn has_drained(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(stream), Some(guards)) = (&mut self.event_stream, &mut self.guards) else { return false };
        let progress = guards.record.send_progress.as_ref();
        if stream.poll_end(progress.is_some_and(|progress| progress.is_waiting()), cx).is_pending() {
            return false;
        }
        guards.record.reason = Some("drained");
        (self.body, self.guards, self.event_stream) = (ResponseSource::Ended, None, None);
        true
    }

    /// Verifies the checksum of a body that has just ended.
    fn verify_checksum(&mut self) -> Result<(), TransferError> {
        match self.checksum.take().map(ResponseChecksum::verify) {
            Some(Err(header)) => Err(self.fail(TransferError::Checksum(header))),
            _ => Ok(()),
        }
    }

    /// Handles the end of the stream: the end of the body or a truncation.
    fn poll_end(&mut self) -> Poll<Option<Result<Bytes, TransferError>>> {
        if let UpstreamFraming::Length(expected) = self.framing
            && self.received < expected
        {
            let error = TransferError::Short { received: self.received, expected };
            return Poll::Ready(Some(Err(self.fail(error))));
        }
        if let Err(error) = self.verify_checksum() {
            return Poll::Ready(Some(Err(error)));
        }
        self.finish();
        self.body = ResponseSource::Ended;
        Poll::Ready(None)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        while let Poll::Ready(event) = self.idle.poll(cx, &self.transfer) {
            if event == IdleEvent::Expired {
                let error = TransferError::Idle(self.idle.limit());
                return Poll::Ready(Some(Err(self.fail(error))));
            }
            // A small body that lasts.
            let progress = self.guards.as_ref().and_then(|guards| guards.record.send_progress.as_ref());
            self.transfer.begin_revocable(&*self.host, progress);
            let _ = self.transfer.poll_gate(cx);
        }
        Poll::Pending
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body without bytes is never polled. Any other body that is dropped before its last byte means that the
        // client left or that the drain timeout has passed. That is no evidence about the upstream (B3), so the
        // ticket is dropped without an outcome.
        if self.framing == UpstreamFraming::NoBody || self.framing == UpstreamFraming::Length(self.received) {
            self.finish();
        } else if let Some(guards) = &mut self.guards {
            guards.record.mark_unfinished();
        }
    }
}

impl MessageBody for ResponseBody {
    type Error = TransferError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        let this = self.get_mut();
        let Poll::Ready(gate) = this.transfer.poll_gate(cx) else {
            this.idle.stop();
            return Poll::Pending;
        };
        if let TransferGate::Cut(cut) = gate {
            // The client connection ends the response. The record has the reason.
            return Poll::Ready(Some(Err(TransferError::Cut(cut))));
        }
        if matches!(this.body, ResponseSource::Ended) || this.has_drained(cx) {
            return Poll::Ready(None);
        }
        // The stream ends when its client has taken the bytes. The next event would be sent without its beginning.
        if this.event_stream.as_ref().is_some_and(|stream| stream.is_complete()) {
            return Poll::Pending;
        }
        let polled = match this.poll_piped(cx) {
            Poll::Ready(None) => this.body.poll(cx),
            piped => piped,
        };
        match polled {
            Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => Poll::Ready(Some(Ok(chunk))),
            Poll::Ready(Some(Ok(mut chunk))) => {
                if let Some(stream) = &mut this.event_stream {
                    chunk = stream.record(chunk);
                }
                this.record_bytes(chunk.len());
                if let Some(checksum) = &mut this.checksum {
                    checksum.update(&chunk);
                }
                if this.framing == UpstreamFraming::Length(this.received)
                    && let Err(error) = this.verify_checksum()
                {
                    return Poll::Ready(Some(Err(error)));
                }
                if let Some(scan) = &mut this.late_error {
                    scan.scan(&chunk);
                }
                if let Some(guards) = &mut this.guards {
                    guards.record.sent_bytes = this.received;
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => {
                if is_connection_close(&error) && matches!(this.framing, UpstreamFraming::Length(_)) {
                    return this.poll_end();
                }
                let error = TransferError::Broken(error);
                Poll::Ready(Some(Err(this.fail(error))))
            }
            Poll::Ready(None) => this.poll_end(),
            Poll::Pending => this.poll_idle(cx),
        }
    }
}
