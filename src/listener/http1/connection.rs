//! One client's HTTP/1.1 connection: socket, read buffer, write buffer, and one timer.
//!
//! The connection's one task polls everything here. Timers are lazy: the one `Sleep` is moved only when it fires too
//! early or is due too late, so a request that soon follows another costs no timer. The socket is watched for its end
//! while a request is served: a client that closes has left (T7), even if it closes one direction only.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_actors::clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::buffers::{BufferRetention, OpenSocket};
use crate::http::head_rejection::HeadError;
use crate::interim::{InterimResponse, InterimResponses};
use crate::listener::http1::connection_timer::ConnectionTimer;
use crate::listener::http1::encode::write_interim;
use crate::listener::http1::head::HeadScanner;
use crate::listener::http1::request_buffer::RequestBuffer;
use crate::listener::http1::write_buffer::WriteBuffer;
use crate::listener::keep_alive::KeepAlive;
use crate::process::DrainPhase;
use crate::server::idle_connections::IdleSlot;
use crate::upstream::interim_headers;
use crate::worker::FIRST_REQUEST_TIME;
use crate::worker::Worker;

/// The most bytes that are read ahead while a request is served; more stay in the socket.
const AHEAD_BYTES_MAX: usize = 8 << 10;
/// How long a closing connection goes on reading, so that a reset does not destroy its last response.
const LINGER: Duration = Duration::from_secs(1);

/// The most bytes that a closing connection reads.
const LINGER_BYTES_MAX: usize = 32 << 20;
/// How often to check for the client's end while received bytes stay unread: no event wakes the task then.
const CLOSE_CHECK_EVERY: Duration = Duration::from_millis(500);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's socket, with or without TLS.
pub(crate) trait ClientTransport: AsyncRead + AsyncWrite + Unpin {
    /// Whether the stream ends with a message of its own (`close_notify` of TLS).
    const HAS_CLOSING_MESSAGE: bool;

    /// Makes the connection end with a reset when it is dropped.
    fn reset_on_drop(&self);

    /// Whether the client has closed its end, checked without a read.
    fn is_closed(&self) -> bool;

    /// The descriptor of the socket; `None` if the stream is not a socket.
    fn descriptor(&self) -> Option<RawFd>;

    /// The socket, if its bytes are those of the stream.
    fn cleartext(&self) -> Option<&TcpStream> {
        None
    }
}

/// The outcome of waiting for the next request.
pub(super) enum NextRequest {
    /// The bytes of a request's head.
    Head(Bytes),
    /// Bytes that are not a request's head.
    Malformed(HeadError),
    /// The head did not arrive in time.
    Timeout,
    /// No request: the client has closed or was idle for too long, or the gateway stops.
    Closed,
}

/// An event of the socket while a request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientEvent {
    /// Bytes arrived for which the application waits.
    DataArrived,
    /// No event.
    Pending,
    /// The client closed the connection.
    Closed,
}

/// The state of a connection between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitPhase {
    Idle,
    Head,
}

/// One connection.
pub(super) struct Http1Connection<S> {
    /// Dropped before the stream.
    pub(super) socket: OpenSocket,
    pub(super) stream: S,
    pub(super) inbound: Rc<RefCell<RequestBuffer>>,
    pub(super) write_buffer: WriteBuffer,
    timer: ConnectionTimer,
    drain_watch: DrainWatch,
    pub(super) idle: IdleSlot,
    header_timeout: Duration,
    keep_alive: KeepAlive,
    has_begun: bool,
    /// When to check for the client's end again.
    close_check: Option<Instant>,
}

impl<S: ClientTransport> Http1Connection<S> {
    pub(super) fn new(stream: S, idle: IdleSlot, worker: &Worker) -> Self {
        let server = &worker.shared.config.server;
        Self {
            socket: OpenSocket::new(stream.descriptor(), BufferRetention::UntilIdle),
            stream,
            inbound: RequestBuffer::new(),
            write_buffer: WriteBuffer::default(),
            timer: ConnectionTimer::new(clock::now() + server.header_timeout),
            idle,
            drain_watch: DrainWatch::new(worker.process.drain.subscribe()),
            header_timeout: server.header_timeout,
            keep_alive: KeepAlive::of(worker),
            has_begun: false,
            close_check: None,
        }
    }

    /// Waits for the head of the next request.
    pub(super) async fn next_request(&mut self) -> NextRequest {
        let mut scan = HeadScanner::default();
        let mut wait =
            if self.inbound.borrow().buffer.is_empty() { WaitPhase::Idle } else { WaitPhase::Head };
        let (mut due, mut stalled_since) = (None, None);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        // A connection that was in the backlog when the gateway began to drain has its first request still to send.
        let mut first_due = None;
        if is_first {
            // The timeout of the first head runs from the connection's beginning.
            (wait, due) = (WaitPhase::Head, Some(self.timer.armed));
            let began = self.timer.armed.checked_sub(self.header_timeout);
            first_due = began.map(|began| began + FIRST_REQUEST_TIME);
        }
        self.inbound.borrow_mut().shrink();
        self.write_buffer.shrink();
        poll_fn(move |cx| {
            loop {
                let is_empty = self.inbound.borrow().buffer.is_empty();
                let is_closing = is_empty && self.drain_watch.poll_closing(cx);
                if is_closing && first_due.is_none_or(|due| due <= clock::now()) {
                    return Poll::Ready(NextRequest::Closed);
                }
                if !is_empty {
                    let buffer = &mut self.inbound.borrow_mut().buffer;
                    match scan.end(buffer) {
                        Ok(Some(length)) => {
                            return Poll::Ready(NextRequest::Head(buffer.split_to(length).freeze()));
                        }
                        Ok(None) => {}
                        Err(error) => return Poll::Ready(NextRequest::Malformed(error)),
                    }
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(1..)) => {
                        self.idle.set_busy();
                        if wait == WaitPhase::Idle {
                            (wait, due) = (WaitPhase::Head, None);
                        }
                        continue;
                    }
                    Poll::Ready(_) => return Poll::Ready(NextRequest::Closed),
                    Poll::Pending => {}
                }
                if !is_empty {
                    // A client that sends an incomplete head occupies a connection like an idle one.
                    let since = *stalled_since.get_or_insert_with(|| clock::now() + self.idle.grace());
                    self.idle.set_idle(since);
                }
                if self.idle.poll_closing(cx) {
                    return Poll::Ready(NextRequest::Closed);
                }
                let is_idle = wait == WaitPhase::Idle;
                let due = *due.get_or_insert_with(|| {
                    let now = clock::now();
                    if is_empty {
                        self.idle.set_idle(now);
                    }
                    now + if is_idle { self.keep_alive.idle_time() } else { self.header_timeout }
                });
                let late = if is_idle { NextRequest::Closed } else { NextRequest::Timeout };
                if let Some(first_due) = first_due.filter(|first_due| is_closing && *first_due < due) {
                    return self.timer.poll(first_due, cx).map(|()| NextRequest::Closed);
                }
                return self.timer.poll(due, cx).map(|()| late);
            }
        })
        .await
    }

    /// Polls the handler of a request, feeds it the body that it reads, and sends the interim responses that it gets. `None` if the
    /// client has gone.
    pub(super) async fn run_request<F: Future>(
        &mut self,
        mut handler: Pin<&mut F>,
        interim: &InterimResponses,
    ) -> Option<F::Output> {
        poll_fn(|cx| {
            loop {
                let polled = handler.as_mut().poll(cx);
                self.write_interim(interim);
                if let Poll::Ready(output) = polled {
                    return Poll::Ready(Some(output));
                }
                if self.inbound.borrow_mut().take_continue() {
                    self.write_buffer.write(|buffer| buffer.extend_from_slice(CONTINUE));
                }
                if self.write_buffer.bytes() > 0
                    && let Poll::Ready(Err(_)) = self.poll_write(cx, |_| ())
                {
                    return Poll::Ready(None);
                }
                match self.poll_client(cx) {
                    ClientEvent::DataArrived => {}
                    ClientEvent::Closed => return Poll::Ready(None),
                    ClientEvent::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn write_interim(&mut self, interim: &InterimResponses) {
        for InterimResponse { status, headers } in interim.take() {
            let headers = interim_headers(headers);
            self.write_buffer.write(|buffer| write_interim(buffer, status, &headers));
        }
    }

    /// Reads the bytes for which the application waits, and otherwise watches for the client's end.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> ClientEvent {
        loop {
            let (is_awaited, ahead) = {
                let inbound = self.inbound.borrow();
                (inbound.is_awaited(), inbound.buffer.len())
            };
            if !is_awaited && ahead >= AHEAD_BYTES_MAX {
                return self.poll_closed(cx);
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) if is_awaited => {
                    self.inbound.borrow_mut().wake_reader(cx);
                    return ClientEvent::DataArrived;
                }
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return ClientEvent::Closed,
                Poll::Pending => return ClientEvent::Pending,
            }
        }
    }

    /// Checks for the client's end while the read-ahead is full.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> ClientEvent {
        loop {
            if self.stream.is_closed() {
                return ClientEvent::Closed;
            }
            let due = *self.close_check.get_or_insert_with(|| clock::now() + CLOSE_CHECK_EVERY);
            if self.timer.poll(due, cx).is_pending() {
                return ClientEvent::Pending;
            }
            self.close_check = None;
        }
    }

    /// Writes the write buffer; calls `sent` with the bytes of each write.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        sent: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        self.write_buffer.poll_write(cx, &mut self.stream, sent)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let inbound = &mut *self.inbound.borrow_mut();
        inbound.reserve();
        pin!(self.stream.read_buf(&mut inbound.buffer)).poll(cx)
    }

    /// Reads and drops the rest of a body that the application left unread. False if it does not arrive in time.
    pub(super) async fn discard_body(&mut self) -> bool {
        let mut due = None;
        poll_fn(move |cx| {
            loop {
                self.inbound.borrow_mut().discard_received();
                if self.inbound.borrow().has_failed() {
                    return Poll::Ready(false);
                }
                if self.inbound.borrow().has_ended() {
                    return Poll::Ready(true);
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(1..)) => continue,
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => {}
                }
                let due = *due.get_or_insert_with(|| clock::now() + self.header_timeout);
                return self.timer.poll(due, cx).map(|()| false);
            }
        })
        .await
    }

    /// Writes the write buffer and closes. If the client may still be sending, the connection goes on reading for a
    /// while (RFC 9112, 9.6).
    pub(super) async fn close(mut self, may_send: bool) {
        let due = clock::now() + LINGER;
        let (mut is_shut_down, mut dropped_bytes) = (false, 0);
        poll_fn(move |cx| {
            if !is_shut_down {
                let written = self.write_buffer.poll_write(cx, &mut self.stream, |_| ());
                let closed = match written {
                    // The drop of the socket ends the stream.
                    Poll::Ready(Ok(())) if !may_send && !S::HAS_CLOSING_MESSAGE => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_shutdown(cx),
                    other => other,
                };
                match closed {
                    Poll::Ready(Ok(())) => is_shut_down = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(due, cx),
                }
            }
            while may_send && dropped_bytes < LINGER_BYTES_MAX {
                self.inbound.borrow_mut().buffer.clear();
                match self.poll_read(cx) {
                    Poll::Ready(Ok(bytes @ 1..)) => dropped_bytes += bytes,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(due, cx),
                }
            }
            // A client that goes on sending has the rest of the time to read the response.
            if may_send { self.timer.poll(due, cx) } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Ends the connection with a reset, so that a truncated response does not look complete.
    pub(super) fn abort(self) {
        self.stream.reset_on_drop();
    }

    /// Whether the gateway drains, so that this response is the connection's last.
    pub(super) fn is_draining(&self) -> bool {
        self.drain_watch.has_begun()
    }
}

/// The drain phase of the gateway. Registers with the channel once in a connection's life.
struct DrainWatch {
    /// Never marks a value as seen, so `has_changed` stays true after a change. That is an atomic load; the value is behind a lock.
    seen: watch::Receiver<DrainPhase>,
    had_begun: bool,
    closing: Pin<Box<dyn Future<Output = ()>>>,
    is_registered: bool,
    is_closing: bool,
}

impl DrainWatch {
    fn new(mut receiver: watch::Receiver<DrainPhase>) -> Self {
        let (seen, had_begun) = (receiver.clone(), *receiver.borrow() != DrainPhase::Serving);
        let closing = Box::pin(async move {
            let _ = receiver.wait_for(|phase| *phase >= DrainPhase::Closing).await;
        });
        Self { seen, had_begun, closing, is_registered: false, is_closing: false }
    }

    fn has_begun(&self) -> bool {
        self.had_begun || self.seen.has_changed().unwrap_or(true)
    }

    /// Whether idle connections close. Wakes the connection's task when that changes; the task must always be the
    /// same.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_registered && !self.has_begun() {
            return false;
        }
        self.is_registered = true;
        self.is_closing = self.is_closing || self.closing.as_mut().poll(cx).is_ready();
        self.is_closing
    }
}
