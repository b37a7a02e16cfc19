//! Sends the body of a response to the connection.
//!
//! Pieces are collected up to [`GATHER_BYTES`] and written together with the head. If the client does not accept
//! them, the body is read ahead into memory that is reserved in the send buffer, so that a body that fits ends and
//! releases what it holds. Without a reservation it is read only as the client accepts bytes.
//! `buffers/send_progress.rs` limits the time of the client and cuts the response. A body that fails, or has a length
//! other than declared, ends the connection without a terminator (T6).

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::MessageBody;
use bytes::Bytes;

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
        Self { body, framing, progress, buffer, is_blocked: false, reserved: Vec::new(), reserved_bytes: 0 }
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
                // The waiting bytes were written first, as far as the client accepts them.
                FillResult::BodyFailed if self.progress.cut_reason().is_some() => {
                    return Poll::Ready(SendResult::Cut);
                }
                FillResult::BodyFailed => return Poll::Ready(SendResult::BodyFailed),
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
    fn fill<S>(&mut self, connection: &mut Http1Connection<S>, cx: &mut Context<'_>) -> FillResult {
        loop {
            let waiting = connection.write_buffer.bytes();
            if waiting >= GATHER_BYTES || (self.is_blocked && !self.reserve(waiting)) {
                return if self.body.is_some() { FillResult::Full } else { FillResult::Ended };
            }
            let Some(body) = &mut self.body else { return FillResult::Ended };
            match Pin::new(body).poll_next(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    if !self.push(connection, piece) {
                        return self.fail();
                    }
                }
                Poll::Ready(Some(Err(_))) => return self.fail(),
                Poll::Ready(None) => {
                    self.body = None;
                    match self.framing {
                        ResponseFraming::Length(1..) => return FillResult::BodyFailed,
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
        FillResult::BodyFailed
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
