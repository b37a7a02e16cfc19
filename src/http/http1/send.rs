//! An answer's body on its way into the connection.
//!
//! Pieces are gathered up to [`GATHER_BYTES`] and written together with the head. Where the client does not take them, the body
//! is read ahead into memory that is reserved for such bytes, so that a body that fits ends and frees what it
//! holds; without a reservation it is read only as the client takes bytes. How long a client may take is decided by `send_progress.rs`,
//! which cuts the answer. A body that breaks, or has another length than was announced, ends the connection without a terminator (T6).

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BoxBody, MessageBody};
use bytes::Bytes;

use crate::http::http1::connection::{Client, Http1Connection, Socket};
use crate::http::http1::encode::Transfer;
use crate::http::send_buffer::{ConnectionBuffer, Reservation};
use crate::http::send_progress::SendProgress;

/// What is gathered for one write, and read ahead of a client.
const GATHER_BYTES: usize = 64 << 10;
/// What is reserved at a time.
const RESERVE_BYTES: usize = 8 << 10;

/// How the transfer of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Its last byte was written.
    Whole,
    /// Its body broke.
    Broken,
    /// It was cut, because its client took it too slowly.
    Cut,
    /// The client closed the connection.
    Gone,
}

/// Why no more of a body is read at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Ended,
    Broken,
    /// As much waits as may wait.
    Full,
    /// The body has no more bytes yet.
    Pending,
}

/// A body that is being sent.
pub(super) struct Sending<'a> {
    body: Option<BoxBody>,
    transfer: Transfer,
    progress: &'a Rc<SendProgress>,
    buffer: &'a Rc<ConnectionBuffer>,
    /// The client does not take what waits.
    is_blocked: bool,
    reserved: Vec<Reservation>,
    reserved_bytes: usize,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        body: BoxBody,
        transfer: Transfer,
        progress: &'a Rc<SendProgress>,
        buffer: &'a Rc<ConnectionBuffer>,
    ) -> Self {
        let body = (transfer != Transfer::Nothing).then_some(body);
        Self { body, transfer, progress, buffer, is_blocked: false, reserved: Vec::new(), reserved_bytes: 0 }
    }

    /// Sends the body behind what waits in the connection.
    pub(super) async fn run<S: Socket>(mut self, connection: &mut Http1Connection<S>) -> Sent {
        poll_fn(|cx| self.poll(connection, cx)).await
    }

    fn poll<S: Socket>(&mut self, connection: &mut Http1Connection<S>, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            let mut filled = self.fill(connection, cx);
            match connection.poll_write(cx, |bytes| self.progress.sent(bytes)) {
                Poll::Ready(Ok(())) => {
                    self.unblock();
                    if filled == Filled::Full {
                        continue;
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Sent::Gone),
                Poll::Pending => {
                    self.is_blocked = true;
                    self.progress.waits();
                    if self.progress.poll_cut(cx).is_ready() {
                        return Poll::Ready(Sent::Cut);
                    }
                    filled = self.fill(connection, cx);
                }
            }
            match filled {
                // What waits is written first, as far as the client takes it.
                Filled::Broken if self.progress.cut().is_some() => return Poll::Ready(Sent::Cut),
                Filled::Broken => return Poll::Ready(Sent::Broken),
                Filled::Ended if !self.is_blocked => return Poll::Ready(Sent::Whole),
                _ => {}
            }
            match connection.poll_client(cx) {
                Client::Sent => {}
                Client::Gone => return Poll::Ready(Sent::Gone),
                Client::Waits => return Poll::Pending,
            }
        }
    }

    fn unblock(&mut self) {
        if std::mem::take(&mut self.is_blocked) {
            self.progress.idle();
            self.reserved.clear();
            self.reserved_bytes = 0;
        }
    }

    /// Moves what the body has into the connection.
    fn fill<S>(&mut self, connection: &mut Http1Connection<S>, cx: &mut Context<'_>) -> Filled {
        loop {
            let waits = connection.outbox.bytes();
            if waits >= GATHER_BYTES || (self.is_blocked && !self.reserve(waits)) {
                return if self.body.is_some() { Filled::Full } else { Filled::Ended };
            }
            let Some(body) = &mut self.body else { return Filled::Ended };
            match Pin::new(body).poll_next(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    if !self.push(connection, piece) {
                        return self.broken();
                    }
                }
                Poll::Ready(Some(Err(_))) => return self.broken(),
                Poll::Ready(None) => {
                    self.body = None;
                    match self.transfer {
                        Transfer::Length(1..) => return Filled::Broken,
                        Transfer::Chunked => {
                            connection.outbox.write(|buffer| buffer.extend_from_slice(b"0\r\n\r\n"));
                        }
                        _ => {}
                    }
                    return Filled::Ended;
                }
                Poll::Pending => return Filled::Pending,
            }
        }
    }

    fn broken(&mut self) -> Filled {
        self.body = None;
        Filled::Broken
    }

    /// False where the body is longer than its length.
    fn push<S>(&mut self, connection: &mut Http1Connection<S>, piece: Bytes) -> bool {
        match &mut self.transfer {
            // A chunk of nothing would be the last.
            _ if piece.is_empty() => {}
            Transfer::Chunked => connection.outbox.push_chunk(piece),
            Transfer::Length(left) => {
                let Some(rest) = left.checked_sub(piece.len() as u64) else { return false };
                *left = rest;
                connection.outbox.push(piece);
            }
            Transfer::UntilClose | Transfer::Nothing => connection.outbox.push(piece),
        }
        true
    }

    /// Whether all that waits is reserved, and so more may be read.
    fn reserve(&mut self, waits: usize) -> bool {
        while self.reserved_bytes < waits {
            let bytes = RESERVE_BYTES.max(waits - self.reserved_bytes);
            let Some(reservation) = self.buffer.try_reserve(bytes) else { return false };
            self.reserved.push(reservation);
            self.reserved_bytes += bytes;
        }
        true
    }
}
