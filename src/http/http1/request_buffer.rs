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

use crate::http::http1::body_decoder::{BodyDecoder, DecodeStep, FramingError};
use crate::http::request_validation::BodyLength;

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
enum ContinueState {
    /// The client does not wait for it, or it was sent.
    Done,
    /// The client waits for it; the application has not polled the body yet.
    Expected,
    /// The application has polled the body.
    Due,
}

/// A connection's received bytes, and the state of the request body that is read from them.
pub(super) struct RequestBuffer {
    pub(super) buffer: BytesMut,
    decoder: BodyDecoder,
    error: Option<FramingError>,
    reader: Option<Waker>,
    continue_state: ContinueState,
    /// Which request of the connection is being served.
    request_number: u64,
    has_reader: bool,
    /// The buffer is a part of a block for long bodies.
    is_large: bool,
}

/// What is left of a body that the application does not read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadBody {
    /// Nothing: the next request follows.
    Complete,
    /// So many bytes.
    Bytes(u64),
    /// An unknown number of bytes.
    Unknown,
}

impl UnreadBody {
    pub(super) fn is_at_most(self, bytes_max: u64) -> bool {
        match self {
            Self::Complete => true,
            Self::Bytes(bytes) => bytes <= bytes_max,
            Self::Unknown => false,
        }
    }
}

impl RequestBuffer {
    pub(super) fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            buffer: BytesMut::new(),
            decoder: BodyDecoder::new(BodyLength::Empty),
            error: None,
            reader: None,
            continue_state: ContinueState::Done,
            request_number: 0,
            has_reader: false,
            is_large: false,
        }))
    }

    /// The body of the next request begins with the buffer; what the application reads, if there is one.
    pub(super) fn begin_body(
        this: &Rc<RefCell<Self>>,
        length: BodyLength,
        expects_continue: bool,
    ) -> Option<RequestPayload> {
        let mut inbound = this.borrow_mut();
        inbound.decoder = BodyDecoder::new(length);
        inbound.request_number += 1;
        inbound.reader = None;
        let has_body = !inbound.decoder.has_ended();
        // A client that waits before it sends nothing waits all the same: botocore does so for empty objects, and reads the answer
        // without a 100 as that of its next request.
        inbound.continue_state = match (expects_continue, has_body) {
            (true, true) => ContinueState::Expected,
            (true, false) => ContinueState::Due,
            (false, _) => ContinueState::Done,
        };
        inbound.has_reader = has_body;
        has_body.then(|| RequestPayload { inbound: Rc::clone(this), request_number: inbound.request_number })
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
    pub(super) fn shrink(&mut self) {
        if self.is_large && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.is_large = false;
        }
    }

    /// Whether the application waits for bytes.
    pub(super) fn is_awaited(&self) -> bool {
        self.reader.is_some()
    }

    /// More bytes have arrived: wakes the task that waits for them, unless it is the caller's own, which polls the body again.
    pub(super) fn wake_reader(&mut self, cx: &Context<'_>) {
        if let Some(waker) = self.reader.take()
            && !waker.will_wake(cx.waker())
        {
            waker.wake();
        }
    }

    /// Whether `100 Continue` is to be sent now. It counts as sent then.
    pub(super) fn take_continue(&mut self) -> bool {
        let is_due = self.continue_state == ContinueState::Due;
        if is_due {
            self.continue_state = ContinueState::Done;
        }
        is_due
    }

    /// The answer begins: what remains of the body, once what has arrived of it is dropped.
    pub(super) fn begin_response(&mut self) -> UnreadBody {
        let owed = std::mem::replace(&mut self.continue_state, ContinueState::Done);
        if self.has_reader && !self.decoder.has_ended() {
            return UnreadBody::Unknown;
        }
        self.discard_received();
        match self.decoder.left() {
            Some(0) => UnreadBody::Complete,
            // A client that still waits for the 100 may send the body, or not.
            Some(bytes) if owed == ContinueState::Done => UnreadBody::Bytes(bytes),
            _ => UnreadBody::Unknown,
        }
    }

    /// Drops what has arrived of the body.
    pub(super) fn discard_received(&mut self) {
        while self.error.is_none() {
            match self.decoder.step(&self.buffer) {
                Ok(DecodeStep::Data(bytes) | DecodeStep::Framing(bytes)) => self.buffer.advance(bytes),
                Ok(DecodeStep::NeedMore | DecodeStep::End) => return,
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
                Ok(DecodeStep::Data(bytes)) if bytes < PIECE_BYTES_MIN => {
                    collected.extend_from_slice(&self.buffer[..bytes]);
                    self.buffer.advance(bytes);
                }
                Ok(DecodeStep::Data(bytes)) => {
                    self.continue_state = ContinueState::Done;
                    return Poll::Ready(Some(Ok(self.buffer.split_to(bytes).freeze())));
                }
                Ok(DecodeStep::Framing(bytes)) => {
                    self.continue_state = ContinueState::Done;
                    self.buffer.advance(bytes);
                }
                Ok(DecodeStep::NeedMore | DecodeStep::End) => break,
                Err(error) => self.error = Some(error),
            }
        }
        if !collected.is_empty() {
            self.continue_state = ContinueState::Done;
            return Poll::Ready(Some(Ok(collected.freeze())));
        }
        if let Some(error) = self.error {
            return Poll::Ready(Some(Err(error)));
        }
        if self.decoder.has_ended() {
            return Poll::Ready(None);
        }
        if self.continue_state == ContinueState::Expected {
            self.continue_state = ContinueState::Due;
        }
        if !self.reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// The body of one request.
pub(super) struct RequestPayload {
    inbound: Rc<RefCell<RequestBuffer>>,
    request_number: u64,
}

impl Stream for RequestPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inbound = self.inbound.borrow_mut();
        if inbound.request_number != self.request_number {
            // Its request was answered, and the rest of it dropped.
            return Poll::Ready(Some(Err(PayloadError::Incomplete(None))));
        }
        // An error of its own kind: `From` would make it an end that came too early.
        let malformed = |error| PayloadError::Io(io::Error::new(io::ErrorKind::InvalidData, error));
        inbound.poll_piece(cx).map_err(malformed)
    }
}

impl Drop for RequestPayload {
    fn drop(&mut self) {
        let mut inbound = self.inbound.borrow_mut();
        if inbound.request_number == self.request_number {
            inbound.has_reader = false;
            inbound.reader = None;
        }
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
