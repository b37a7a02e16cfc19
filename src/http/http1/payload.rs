//! What a connection has received and not yet used, and the body that the application reads from it.
//!
//! Both live on one thread, and the body must be polled by the connection's own task: a body that waits wakes nobody, the
//! connection looks at what it waits for after each poll. The connection alone reads the socket, and only when the
//! application asks for more of the body than has arrived, so a slow upstream slows its client down. Pieces of the
//! body that are long are parts of the read buffer; short ones are collected into one, so that a body in one-byte
//! chunks costs no more memory than any other.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::error::PayloadError;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;

use crate::http::edge::BodyLength;
use crate::http::http1::framing::{Decoder, FramingError, Step};

/// What is read at a time, where no long body is expected.
const READ_BYTES: usize = 8 << 10;
/// What is read at a time of a long body.
const BODY_READ_BYTES: usize = 64 << 10;
/// Less room than this is not read into.
const READ_BYTES_MIN: usize = 1 << 10;
/// A shorter piece is copied: as a part of the read buffer it would keep all of that in memory.
const PIECE_BYTES_MIN: usize = 1 << 10;

/// Whether `100 Continue` is still owed to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continue {
    /// The client does not wait for it, or it was sent.
    Settled,
    /// The client waits for it; the application has not polled the body yet.
    Owed,
    /// The application has polled the body.
    Due,
}

/// A connection's received bytes, and the state of the request body that is read from them.
pub(super) struct Inbound {
    pub(super) buffer: BytesMut,
    decoder: Decoder,
    error: Option<FramingError>,
    waiting: Option<Waker>,
    owed: Continue,
    /// Which request of the connection is being served.
    turn: u64,
    is_held: bool,
    /// The buffer is a part of a block for long bodies.
    is_large: bool,
}

/// What is left of a body that the application does not read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: the next request follows.
    Nothing,
    /// So many bytes.
    Bytes(u64),
    /// An unknown number of bytes.
    Unknown,
}

impl Rest {
    pub(super) fn is_at_most(self, bytes_max: u64) -> bool {
        match self {
            Self::Nothing => true,
            Self::Bytes(bytes) => bytes <= bytes_max,
            Self::Unknown => false,
        }
    }
}

impl Inbound {
    pub(super) fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            buffer: BytesMut::new(),
            decoder: Decoder::new(BodyLength::Empty),
            error: None,
            waiting: None,
            owed: Continue::Settled,
            turn: 0,
            is_held: false,
            is_large: false,
        }))
    }

    /// The body of the next request begins with the buffer; what the application reads, if there is one.
    pub(super) fn begin(
        this: &Rc<RefCell<Self>>,
        length: BodyLength,
        expects_continue: bool,
    ) -> Option<Body> {
        let mut inbound = this.borrow_mut();
        inbound.decoder = Decoder::new(length);
        inbound.turn += 1;
        inbound.waiting = None;
        let has_body = !inbound.decoder.has_ended();
        // A client that waits before it sends nothing waits all the same: botocore does so for empty objects, and reads the answer
        // without a 100 as that of its next request.
        inbound.owed = match (expects_continue, has_body) {
            (true, true) => Continue::Owed,
            (true, false) => Continue::Due,
            (false, _) => Continue::Settled,
        };
        inbound.is_held = has_body;
        has_body.then(|| Body { inbound: Rc::clone(this), turn: inbound.turn })
    }

    /// Makes room for what is read next.
    pub(super) fn reserve(&mut self) {
        let ahead = self.decoder.data_ahead();
        let wanted = usize::try_from(ahead).unwrap_or(usize::MAX).clamp(READ_BYTES, BODY_READ_BYTES);
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            self.buffer.reserve(wanted);
            self.is_large |= wanted > READ_BYTES;
        }
    }

    /// Gives memory back while nothing is to be received.
    pub(super) fn rest(&mut self) {
        if self.is_large && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.is_large = false;
        }
    }

    /// Whether the application waits for bytes.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.is_some()
    }

    /// More bytes have arrived: wakes the task that waits for them, unless it is the caller's own, which polls the body again.
    pub(super) fn arrived(&mut self, cx: &Context<'_>) {
        if let Some(waker) = self.waiting.take()
            && !waker.will_wake(cx.waker())
        {
            waker.wake();
        }
    }

    /// Whether `100 Continue` is to be sent now. It counts as sent then.
    pub(super) fn take_continue(&mut self) -> bool {
        let is_due = self.owed == Continue::Due;
        if is_due {
            self.owed = Continue::Settled;
        }
        is_due
    }

    /// The answer begins: what remains of the body, once what has arrived of it is dropped.
    pub(super) fn answer(&mut self) -> Rest {
        let owed = std::mem::replace(&mut self.owed, Continue::Settled);
        if self.is_held && !self.decoder.has_ended() {
            return Rest::Unknown;
        }
        self.skip();
        match self.decoder.left() {
            Some(0) => Rest::Nothing,
            // A client that still waits for the 100 may send the body, or not.
            Some(bytes) if owed == Continue::Settled => Rest::Bytes(bytes),
            _ => Rest::Unknown,
        }
    }

    /// Drops what has arrived of the body.
    pub(super) fn skip(&mut self) {
        while self.error.is_none() {
            match self.decoder.step(&self.buffer) {
                Ok(Step::Data(bytes) | Step::Framing(bytes)) => self.buffer.advance(bytes),
                Ok(Step::NeedMore | Step::End) => return,
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Whether the body's framing is malformed: where it ends cannot be known.
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// The next piece of the body; none at its end.
    fn poll_piece(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, FramingError>>> {
        let mut collected = BytesMut::new();
        while self.error.is_none() {
            if self.decoder.data_ahead() >= PIECE_BYTES_MIN as u64 && !collected.is_empty() {
                break;
            }
            match self.decoder.step(&self.buffer) {
                Ok(Step::Data(bytes)) if bytes < PIECE_BYTES_MIN => {
                    collected.extend_from_slice(&self.buffer[..bytes]);
                    self.buffer.advance(bytes);
                }
                Ok(Step::Data(bytes)) => {
                    self.owed = Continue::Settled;
                    return Poll::Ready(Some(Ok(self.buffer.split_to(bytes).freeze())));
                }
                Ok(Step::Framing(bytes)) => {
                    self.owed = Continue::Settled;
                    self.buffer.advance(bytes);
                }
                Ok(Step::NeedMore | Step::End) => break,
                Err(error) => self.error = Some(error),
            }
        }
        if !collected.is_empty() {
            self.owed = Continue::Settled;
            return Poll::Ready(Some(Ok(collected.freeze())));
        }
        if let Some(error) = self.error {
            return Poll::Ready(Some(Err(error)));
        }
        if self.decoder.has_ended() {
            return Poll::Ready(None);
        }
        if self.owed == Continue::Owed {
            self.owed = Continue::Due;
        }
        if !self.waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// The body of one request.
pub(super) struct Body {
    inbound: Rc<RefCell<Inbound>>,
    turn: u64,
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inbound = self.inbound.borrow_mut();
        if inbound.turn != self.turn {
            // Its request was answered, and the rest of it dropped.
            return Poll::Ready(Some(Err(PayloadError::Incomplete(None))));
        }
        // An error of its own kind: `From` would make it an end that came too early.
        let malformed = |error| PayloadError::Io(io::Error::new(io::ErrorKind::InvalidData, error));
        inbound.poll_piece(cx).map_err(malformed)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut inbound = self.inbound.borrow_mut();
        if inbound.turn == self.turn {
            inbound.is_held = false;
            inbound.waiting = None;
        }
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
