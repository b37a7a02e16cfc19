//! Sends the body of a response to the connection.
//!
//! Pieces are collected up to [`GATHER_BYTES`] and written together with the head. If the client does not accept
//! them, the body is read ahead into memory that is reserved in the send buffer, so that a body that fits ends and
//! releases what it holds. Without a reservation it is read only as the client accepts bytes.
//! A large body without framing of its own passes through the pipe of the thread (`buffers/pipe.rs`) if nothing else waits for the client.
//! It is not read ahead.
//! `buffers/send_progress.rs` limits the time of the client and cuts the response. A body that fails, or has a length
//! other than declared, ends the connection without a terminator (T6).

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::body::MessageBody;
use bytes::Bytes;
use tokio::io::Interest;

use crate::buffers::pipe::{PipedBytes, is_unsupported};
use crate::buffers::send_progress::SendProgress;
use crate::listener::http1::connection::{ClientEvent, ClientTransport, Http1Connection};
use crate::listener::http1::encode::ResponseFraming;
use crate::listener::send_buffer::{ConnectionBuffer, Reservation};

/// The most bytes that are collected for one write, and read ahead of a client.
const GATHER_BYTES: usize = 64 << 10;
/// The least bytes of a reservation.
const RESERVE_BYTES: usize = 8 << 10;

/// How the framing of a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendResult {
    /// Its last byte was written.
    Complete,
    /// Its body failed.
    BodyFailed,
    /// It was cut, because the client read it too slowly.
    Cut,
    /// The client closed the connection.
    ClientClosed,
}

/// Why reading of the body stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FillResult {
    Ended,
    BodyFailed,
    /// The most bytes that may wait are waiting.
    Full,
    /// The client does not accept bytes that came in a pipe.
    ClientClosed,
    /// The body has no more bytes yet.
    Pending,
}

/// A body that is being sent.
pub(super) struct ResponseSender<'a, B> {
    body: Option<B>,
    framing: ResponseFraming,
    progress: &'a Rc<SendProgress>,
    buffer: &'a Rc<ConnectionBuffer>,
    /// Whether the client does not accept the waiting bytes.
    is_blocked: bool,
    /// Whether the last bytes of the body came in a pipe.
    is_piped: bool,
    has_failed: bool,
    reserved: Vec<Reservation>,
    reserved_bytes: usize,
}

impl<'a, B: MessageBody + Unpin> ResponseSender<'a, B> {
    pub(super) fn new(
        body: B,
        framing: ResponseFraming,
        progress: &'a Rc<SendProgress>,
        buffer: &'a Rc<ConnectionBuffer>,
    ) -> Self {
        let body = (framing != ResponseFraming::NoBody).then_some(body);
        Self {
            body,
            framing,
            progress,
            buffer,
            is_blocked: false,
            is_piped: false,
            has_failed: false,
            reserved: Vec::new(),
            reserved_bytes: 0,
        }
    }

    /// Sends the body after the bytes that wait in the connection.
    pub(super) async fn run<S: ClientTransport>(mut self, connection: &mut Http1Connection<S>) -> SendResult {
        poll_fn(|cx| self.poll(connection, cx)).await
    }

    fn poll<S: ClientTransport>(
        &mut self,
        connection: &mut Http1Connection<S>,
        cx: &mut Context<'_>,
    ) -> Poll<SendResult> {
        loop {
            let mut filled = self.fill(connection, cx);
            if filled == FillResult::ClientClosed {
                return Poll::Ready(SendResult::ClientClosed);
            }
            match connection.poll_write(cx, |bytes| self.progress.record_sent(bytes)) {
                Poll::Ready(Ok(())) => {
                    self.unblock();
                    if filled == FillResult::Full {
                        continue;
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(SendResult::ClientClosed),
                Poll::Pending => {
                    self.is_blocked = true;
                    self.progress.set_waiting();
                    if self.progress.poll_cut(cx).is_ready() {
                        return Poll::Ready(SendResult::Cut);
                    }
                    filled = self.fill(connection, cx);
                }
            }
            match filled {
                FillResult::BodyFailed if self.progress.cut_reason().is_some() => {
                    return Poll::Ready(SendResult::Cut);
                }
                // The client gets the waiting bytes first.
                FillResult::BodyFailed if !self.is_blocked => return Poll::Ready(SendResult::BodyFailed),
                FillResult::Ended if !self.is_blocked => return Poll::Ready(SendResult::Complete),
                _ => {}
            }
            match connection.poll_client(cx) {
                ClientEvent::DataArrived => {}
                ClientEvent::Closed => return Poll::Ready(SendResult::ClientClosed),
                ClientEvent::Pending => return Poll::Pending,
            }
        }
    }

    fn unblock(&mut self) {
        if std::mem::take(&mut self.is_blocked) {
            self.progress.set_idle();
            self.reserved.clear();
            self.reserved_bytes = 0;
        }
    }

    /// Moves available bytes of the body into the connection.
    fn fill<S: ClientTransport>(
        &mut self,
        connection: &mut Http1Connection<S>,
        cx: &mut Context<'_>,
    ) -> FillResult {
        loop {
            let waiting = connection.write_buffer.bytes();
            if waiting >= GATHER_BYTES || (self.is_blocked && !self.may_read_ahead(waiting)) {
                return if self.body.is_some() { FillResult::Full } else { self.end() };
            }
            let accepts_pipe = waiting == 0 && self.is_plain() && connection.stream.cleartext().is_some();
            self.progress.pipe.accept(accepts_pipe);
            let Some(body) = &mut self.body else { return self.end() };
            match Pin::new(body).poll_next(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    let piped = self.progress.pipe.take();
                    self.is_piped = piped.is_some();
                    if let Some(piped) = piped {
                        match self.send_piped(connection, cx, piped) {
                            Some(result) => return result,
                            None => continue,
                        }
                    }
                    if !self.push(connection, piece) {
                        return self.fail();
                    }
                }
                Poll::Ready(Some(Err(_))) => return self.fail(),
                Poll::Ready(None) => {
                    self.body = None;
                    match self.framing {
                        ResponseFraming::Length(1..) => return self.fail(),
                        ResponseFraming::Chunked => {
                            connection.write_buffer.write(|buffer| buffer.extend_from_slice(b"0\r\n\r\n"));
                        }
                        _ => {}
                    }
                    return FillResult::Ended;
                }
                Poll::Pending => return FillResult::Pending,
            }
        }
    }

    fn fail(&mut self) -> FillResult {
        self.body = None;
        self.has_failed = true;
        FillResult::BodyFailed
    }

    /// How the body ended. A failure stays one while bytes wait for the client.
    fn end(&self) -> FillResult {
        if self.has_failed { FillResult::BodyFailed } else { FillResult::Ended }
    }

    /// Whether the bytes of the body are those on the connection.
    fn is_plain(&self) -> bool {
        matches!(self.framing, ResponseFraming::Length(_))
    }

    /// Moves bytes from a pipe to the client. What it does not accept waits in memory. None if more may follow.
    fn send_piped<S: ClientTransport>(
        &mut self,
        connection: &mut Http1Connection<S>,
        cx: &mut Context<'_>,
        mut piped: PipedBytes,
    ) -> Option<FillResult> {
        let ResponseFraming::Length(left) = &mut self.framing else { return Some(self.fail()) };
        let Some(rest) = left.checked_sub(piped.bytes() as u64) else { return Some(self.fail()) };
        *left = rest;
        match poll_send(&connection.stream, cx, &mut piped, self.progress) {
            Poll::Ready(Ok(())) => return None,
            Poll::Ready(Err(_)) => return Some(FillResult::ClientClosed),
            Poll::Pending => {}
        }
        match piped.into_memory() {
            Ok(bytes) => connection.write_buffer.push(bytes),
            Err(_) => return Some(self.fail()),
        }
        Some(FillResult::Full)
    }

    /// False if the body is longer than its length.
    fn push<S>(&mut self, connection: &mut Http1Connection<S>, piece: Bytes) -> bool {
        match &mut self.framing {
            // An empty chunk would be the last.
            _ if piece.is_empty() => {}
            ResponseFraming::Chunked => connection.write_buffer.push_chunk(piece),
            ResponseFraming::Length(left) => {
                let Some(rest) = left.checked_sub(piece.len() as u64) else { return false };
                *left = rest;
                connection.write_buffer.push(piece);
            }
            ResponseFraming::UntilClose | ResponseFraming::NoBody => connection.write_buffer.push(piece),
        }
        true
    }

    /// Whether the body is read on although the client does not accept bytes. Bytes that can pass through a pipe are left in the upstream's
    /// socket, except the last ones: a body that has ended releases what it holds.
    fn may_read_ahead(&mut self, waiting: usize) -> bool {
        let is_near_end =
            matches!(self.framing, ResponseFraming::Length(left) if left <= GATHER_BYTES as u64);
        (!self.is_piped || is_near_end) && self.reserve(waiting)
    }

    /// Reserves memory for all waiting bytes; true if more may be read.
    fn reserve(&mut self, waiting: usize) -> bool {
        while self.reserved_bytes < waiting {
            let bytes = RESERVE_BYTES.max(waiting - self.reserved_bytes);
            let Some(reservation) = self.buffer.try_reserve(bytes) else { return false };
            self.reserved.push(reservation);
            self.reserved_bytes += bytes;
        }
        true
    }
}

/// Moves bytes from a pipe to a client until the pipe is empty. Pending if they must be written from memory.
fn poll_send(
    stream: &impl ClientTransport,
    cx: &mut Context<'_>,
    piped: &mut PipedBytes,
    progress: &SendProgress,
) -> Poll<io::Result<()>> {
    let Some(socket) = stream.cleartext() else { return Poll::Pending };
    while piped.bytes() > 0 {
        ready!(socket.poll_write_ready(cx))?;
        match socket.try_io(Interest::WRITABLE, || piped.send(socket)) {
            Ok(bytes) => progress.record_sent(bytes),
            Err(error) if is_unsupported(&error) => return Poll::Pending,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}
