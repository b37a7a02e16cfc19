//! A request on its way, up to the head of its response.
//!
//! One future without a task, a timer or a channel of its own: it takes an idle connection or opens one, writes the request and reads the
//! head. A response may arrive before the end of a streamed body; then nothing more of the body is sent, and the connection is not used
//! again. Dropped before the head, it closes its connection.
//!
//! A reused connection may have been closed by the upstream just as the request was sent. That is no failure of the upstream. The request
//! is sent again at once, over a new connection, if no byte of a response came and either no byte of it was written or the caller allows
//! it. The new connection is not a reused one, so this happens once.
//!
//! Interim responses (RFC 9110, 15.2) are passed to the client's connection, except a 100, which the gateway sends itself.
//!
//! Design: `docs/design/connections.md`.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::LocalBoxFuture;
use tidegate_actors::clock;
use tokio::time::timeout;

use crate::boxed::boxed;
use crate::buffers::SocketBuffers;
use crate::buffers::pipe::PipedBytes;
use crate::buffers::send_progress::SendProgress;
use crate::upstream::body::Upload;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::connect::stream::UpstreamStream;
use crate::upstream::exchange::connection::UpstreamTransport;
use crate::upstream::exchange::memory::ReadBuffer;
use crate::upstream::exchange::outbound_head::OutboundHead;
use crate::upstream::exchange::pool::{EndpointPool, PooledConnection};
use crate::upstream::exchange::request_writer::{OutboundBody, RequestWriter};
use crate::upstream::exchange::response_framing::{Persistence, UpstreamFraming};
use crate::upstream::exchange::response_head::{ParsedHead, ResponseHeadLimits, ResponseHeadScanner, parse};
use crate::upstream::exchange::response_head_error::ResponseHeadError;
use crate::upstream::exchange::response_stream::ResponseStream;
use crate::upstream::exchange::send_error::{SendError, is_close};

/// If more of a streamed body was written, the upstream has accepted a part of it: the connection was open.
const STALE_BYTES_MAX: u64 = 256 << 10;

/// A request that is not sent yet.
pub(crate) struct OutboundRequest {
    pub(crate) head: OutboundHead,
    pub(crate) connection: ConnectionChoice,
    /// Whether it may be sent again after it was written to a reused connection that was closed.
    pub(crate) may_resend: bool,
}

/// Which connections a request may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConnectionChoice {
    /// The bucket before the endpoint's name in the TLS server name. Empty: the endpoint's name alone.
    pub(crate) tls_bucket: Box<str>,
    /// Whether the connection serves this request only.
    pub(crate) is_single_use: bool,
}

/// Who is concerned with the progress of a request.
#[derive(Default)]
pub(crate) struct ExchangeObservers {
    pub(crate) upload: Rc<UploadProgress>,
    /// Gets interim responses; none if there is no client.
    pub(crate) client: Option<Rc<SendProgress>>,
}

/// A response of which the head has arrived. The stream is its body.
pub(crate) trait ResponseParts: Stream<Item = io::Result<Bytes>> + Unpin {
    fn status(&self) -> StatusCode;

    fn headers(&self) -> &HeaderMap;
}

/// A request that starts when it is first polled.
pub(crate) struct SentRequest<S = UpstreamStream> {
    pool: Rc<EndpointPool<S>>,
    writer: RequestWriter,
    connection: ConnectionChoice,
    is_head: bool,
    may_resend: bool,
    observers: ExchangeObservers,
    state: SendState<S>,
    /// Why no more of the request can be written to a connection that may still have a response.
    write_failure: Option<io::Error>,
}

enum SendState<S> {
    Begin,
    Connecting(LocalBoxFuture<'static, Result<S, SendError>>),
    Exchanging(PooledConnection<S>, HeadReader),
    Done,
}

/// The part of the response that has arrived.
struct HeadReader {
    buffer: ReadBuffer,
    scanner: ResponseHeadScanner,
    /// The bytes of interim responses.
    interim_bytes: usize,
    has_bytes: bool,
}

/// A response with a body that has not been read. Dropped before its end, it closes its connection.
pub(crate) struct ReceivedResponse<S = UpstreamStream> {
    status: StatusCode,
    headers: HeaderMap,
    framing: UpstreamFraming,
    socket: Rc<SocketBuffers>,
    /// Boxed, because a response is moved often.
    body: Box<ResponseStream<S>>,
}

impl<S: UpstreamTransport> SentRequest<S> {
    pub(crate) fn new(
        pool: &Rc<EndpointPool<S>>,
        request: OutboundRequest,
        body: OutboundBody,
        observers: ExchangeObservers,
    ) -> Self {
        let OutboundRequest { head, connection, may_resend } = request;
        Self {
            pool: Rc::clone(pool),
            writer: RequestWriter::new(&head, body, connection.is_single_use),
            connection,
            is_head: head.method == Method::HEAD,
            may_resend,
            observers,
            state: SendState::Begin,
            write_failure: None,
        }
    }

    /// The streamed body, if no byte of it was read from the client.
    pub(crate) fn reclaim_upload(&mut self) -> Option<Box<Upload>> {
        self.writer.reclaim_upload()
    }

    fn begin(&mut self) -> SendState<S> {
        let ConnectionChoice { tls_bucket, is_single_use } = &self.connection;
        if !is_single_use && let Some(idle) = self.pool.take(tls_bucket, clock::now()) {
            return self.exchange(idle);
        }
        self.open()
    }

    fn open(&self) -> SendState<S> {
        let connecting = self.pool.connect(&self.connection.tls_bucket);
        let limit = self.pool.settings.connect_timeout;
        SendState::Connecting(Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(SendError::Connect),
                Err(_) => Err(SendError::ConnectTimeout),
            }
        }))
    }

    fn exchange(&self, pooled: PooledConnection<S>) -> SendState<S> {
        if self.writer.is_streamed() {
            self.observers.upload.set_upstream_socket(pooled.connection.socket());
        }
        SendState::Exchanging(pooled, HeadReader::new())
    }

    /// Writes the request and reads the head of its response.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<ParsedHead, SendError>> {
        let SendState::Exchanging(pooled, reader) = &mut self.state else { return Poll::Pending };
        let how = (self.is_head, self.pool.settings.head_limits, self.observers.client.as_deref());
        if self.write_failure.is_none() && !self.writer.is_complete() {
            if self.writer.is_streamed() && self.writer.has_written() {
                let early = reader.poll_head(pooled, how, cx);
                if early.is_ready() {
                    return early;
                }
            }
            match self.writer.poll(&mut pooled.connection.stream, cx) {
                // An upstream that responds and closes resets the rest of the request. Its response may have arrived, although the
                // runtime has not seen that the socket is readable. A closed socket becomes readable.
                Poll::Ready(Err(error)) if is_close(&error) => self.write_failure = Some(error),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendError::Io(error))),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        let head = ready!(reader.poll_head(pooled, how, cx));
        Poll::Ready(match self.write_failure.take() {
            Some(failure) if head.is_err() => Err(SendError::Io(failure)),
            _ => head,
        })
    }

    /// After a failure: the next state if the request is sent again, else the error.
    fn recover(&mut self, error: SendError) -> Result<SendState<S>, SendError> {
        let is_stale = match (&error, &self.state) {
            (SendError::Io(error), SendState::Exchanging(pooled, reader)) => {
                pooled.connection.is_reused
                    && !reader.has_bytes
                    && is_close(error)
                    && self.writer.streamed_bytes() <= STALE_BYTES_MAX
            }
            _ => false,
        };
        let SendError::Io(cause) = error else { return Err(error) };
        if !is_stale {
            return Err(SendError::Io(cause));
        }
        self.pool.counts.count_reused_closed();
        let may_resend = self.may_resend || !self.writer.has_written();
        if may_resend && self.writer.rewind() { Ok(self.open()) } else { Err(SendError::ReusedClosed(cause)) }
    }

    fn respond(&mut self, head: ParsedHead) -> Option<ReceivedResponse<S>> {
        let SendState::Exchanging(pooled, reader) = std::mem::replace(&mut self.state, SendState::Done)
        else {
            return None;
        };
        let ParsedHead { status, headers, framing, mut persistence } = head;
        if self.connection.is_single_use || !self.writer.is_complete() {
            persistence = Persistence::Closes;
        }
        let socket = Rc::clone(pooled.connection.socket());
        let rules = (framing, persistence);
        let body = boxed!(ResponseStream::new(&self.pool, pooled, reader.buffer, rules));
        Some(ReceivedResponse { status, headers, framing, socket, body })
    }
}

impl<S: UpstreamTransport> Future for SentRequest<S> {
    type Output = Result<ReceivedResponse<S>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                SendState::Begin => this.state = this.begin(),
                SendState::Connecting(connecting) => {
                    let stream = match ready!(connecting.as_mut().poll(cx)) {
                        Ok(stream) => stream,
                        Err(error) => {
                            this.state = SendState::Done;
                            return Poll::Ready(Err(error));
                        }
                    };
                    this.state = this.exchange(this.pool.adopt(stream, &this.connection.tls_bucket));
                }
                SendState::Exchanging(..) => match ready!(this.poll_exchange(cx)) {
                    Ok(head) => {
                        if let Some(response) = this.respond(head) {
                            return Poll::Ready(Ok(response));
                        }
                    }
                    Err(error) => match this.recover(error) {
                        Ok(next) => this.state = next,
                        Err(error) => {
                            this.state = SendState::Done;
                            return Poll::Ready(Err(error));
                        }
                    },
                },
                // The result was returned; a caller must not poll again.
                SendState::Done => return Poll::Pending,
            }
        }
    }
}

impl HeadReader {
    fn new() -> Self {
        Self {
            buffer: ReadBuffer::new(),
            scanner: ResponseHeadScanner::default(),
            interim_bytes: 0,
            has_bytes: false,
        }
    }

    /// Reads the final head. Interim responses before it are passed to `client`.
    fn poll_head<S: UpstreamTransport>(
        &mut self,
        pooled: &mut PooledConnection<S>,
        (is_head, limits, client): (bool, ResponseHeadLimits, Option<&SendProgress>),
        cx: &mut Context<'_>,
    ) -> Poll<Result<ParsedHead, SendError>> {
        loop {
            let left = limits.bytes_max.saturating_sub(self.interim_bytes);
            let limits = ResponseHeadLimits { bytes_max: left, ..limits };
            if let Some(length) = self.scanner.end(&self.buffer.bytes, limits)? {
                let head = parse(&self.buffer.bytes.split_to(length).freeze(), is_head, limits)?;
                if !head.status.is_informational() {
                    return Poll::Ready(Ok(head));
                }
                if head.status.as_u16() == 101 {
                    return Poll::Ready(Err(ResponseHeadError::Switch.into()));
                }
                self.scanner = ResponseHeadScanner::default();
                self.interim_bytes += length;
                if let Some(client) = client.filter(|_| head.status.as_u16() != 100) {
                    client.interim.push(head.status, head.headers);
                }
                continue;
            }
            self.buffer.reserve(0);
            ready!(pooled.connection.poll_read(cx, &mut self.buffer.bytes)).map_err(SendError::Io)?;
            self.has_bytes = true;
        }
    }
}

impl<S> ReceivedResponse<S> {
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Takes the headers; none are left.
    pub(crate) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    /// How the body ends.
    pub(crate) fn framing(&self) -> UpstreamFraming {
        self.framing
    }

    /// The socket of its connection.
    pub(crate) fn socket(&self) -> &Rc<SocketBuffers> {
        &self.socket
    }
}

impl<S: UpstreamTransport> ResponseParts for ReceivedResponse<S> {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl<S: UpstreamTransport> ReceivedResponse<S> {
    /// The next bytes of the body in the pipe of the thread, at most `max`. None if they must be read.
    pub(crate) fn poll_piped(
        &mut self,
        cx: &mut Context<'_>,
        max: u64,
    ) -> Poll<io::Result<Option<PipedBytes>>> {
        self.body.poll_piped(cx, max)
    }
}

impl<S: UpstreamTransport> Stream for ReceivedResponse<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.body).poll_next(cx)
    }
}

#[cfg(test)]
#[path = "sent_request_tests.rs"]
mod tests;
