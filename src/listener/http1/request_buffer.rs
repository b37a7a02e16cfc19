//! The received and unused bytes of a connection, and the request body that the application reads from them.
//!
//! Both are on one thread, and the connection's own task must poll the body: a waiting body wakes no task, because
//! the connection checks after each poll whether it waits. Only the connection reads the socket, and only when the
//! application polls for more of the body than has arrived, so a slow upstream slows its client down. Long pieces of
//! the body are slices of the read buffer. Short ones are collected into one piece, so a body in one-byte chunks
//! needs no more memory than any other.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::error::PayloadError;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tidegate_s3::request::BodyLength;

use crate::body_framing::{BodyDecoder, DecodeStep, FramingError};

/// Bytes per read if no long body is expected.
const READ_BYTES: usize = 8 << 10;
/// Bytes per read of a long body.
const BODY_READ_BYTES: usize = 64 << 10;
/// The least free capacity for a read.
const READ_BYTES_MIN: usize = 1 << 10;
/// A shorter piece is copied: as a slice it would keep the whole read buffer in memory.
const PIECE_BYTES_MIN: usize = 1 << 10;

/// Whether `100 Continue` must still be sent.
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
    /// The number of the current request of the connection.
    request_number: u64,
    has_reader: bool,
    /// Whether the buffer is a part of a block for long bodies.
    is_large: bool,
}

/// The rest of a body that the application does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadBody {
    /// No rest: the next request follows.
    Complete,
    /// This number of bytes.
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

    /// Starts the body of the next request at the beginning of the buffer. Returns the stream for the application if
    /// there is a body.
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
        // A client may wait for the 100 even with an empty body: botocore does so for empty objects, and without a
        // 100 reads the response as that of its next request.
        inbound.continue_state = match (expects_continue, has_body) {
            (true, true) => ContinueState::Expected,
            (true, false) => ContinueState::Due,
            (false, _) => ContinueState::Done,
        };
        inbound.has_reader = has_body;
        has_body.then(|| RequestPayload { inbound: Rc::clone(this), request_number: inbound.request_number })
    }

    /// Reserves capacity for the next read.
    pub(super) fn reserve(&mut self) {
        let ahead = self.decoder.data_ahead();
        let bytes = usize::try_from(ahead).unwrap_or(usize::MAX).clamp(READ_BYTES, BODY_READ_BYTES);
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            self.buffer.reserve(bytes);
            self.is_large |= bytes > READ_BYTES;
        }
    }

    /// Frees memory between requests.
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

    /// Wakes the task that waits for received bytes, unless it is the caller's own, which polls the body again.
    pub(super) fn wake_reader(&mut self, cx: &Context<'_>) {
        if let Some(waker) = self.reader.take()
            && !waker.will_wake(cx.waker())
        {
            waker.wake();
        }
    }

    /// Whether `100 Continue` is due; marks it as sent.
    pub(super) fn take_continue(&mut self) -> bool {
        let is_due = self.continue_state == ContinueState::Due;
        if is_due {
            self.continue_state = ContinueState::Done;
        }
        is_due
    }

    /// Starts the response: drops the received part of the body and returns the rest.
    pub(super) fn begin_response(&mut self) -> UnreadBody {
        let continue_state = std::mem::replace(&mut self.continue_state, ContinueState::Done);
        if self.has_reader && !self.decoder.has_ended() {
            return UnreadBody::Unknown;
        }
        self.discard_received();
        match self.decoder.left() {
            Some(0) => UnreadBody::Complete,
            // A client that still waits for the 100 may or may not send the body.
            Some(bytes) if continue_state == ContinueState::Done => UnreadBody::Bytes(bytes),
            _ => UnreadBody::Unknown,
        }
    }

    /// Drops the received part of the body.
    pub(super) fn discard_received(&mut self) {
        while self.error.is_none() {
            match self.decoder.step(&self.buffer) {
                Ok(DecodeStep::Data(bytes) | DecodeStep::Framing(bytes)) => self.buffer.advance(bytes),
                Ok(DecodeStep::NeedMore | DecodeStep::End) => return,
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Whether the body's framing is malformed, so that its end is unknown.
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// The next piece of the body; `None` at its end.
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
            // The request of this body has ended, and the rest of the body was dropped.
            return Poll::Ready(Some(Err(PayloadError::Incomplete(None))));
        }
        // A distinct kind of error: `From` would map it to a premature end.
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
#[path = "request_buffer_tests.rs"]
mod tests;
