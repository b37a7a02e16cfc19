//! The body of one request, from `h2` to the application.
//!
//! The application reads through [`RequestPayload`]. While it does not read, the stream's task moves DATA frames from
//! `h2` into joined buffers ([`InboundBody::receive`]), because `h2` stores each frame separately. The client gets
//! new window only for bytes that the application has read, so at most one stream window is stored here. A body
//! without a reader is dropped; `h2` then discards further DATA.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use h2::{FlowControl, RecvStream};
use tidegate_s3::pieces::PieceQueue;

use super::connection_state::ConnectionState;
use super::request::check_values;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    /// With END_STREAM.
    Complete,
    /// The client reset the stream, or the connection ended.
    Aborted,
    /// The trailers are malformed.
    Malformed,
    /// The reader was dropped.
    Abandoned,
}

/// One request's body. It stays on one thread.
pub(super) struct InboundBody {
    connection: Rc<ConnectionState>,
    stream: u32,
    state: RefCell<BodyState>,
}

struct BodyState {
    stream: Option<RecvStream>,
    window: Option<FlowControl>,
    pieces: PieceQueue,
    end: Option<BodyEnd>,
    /// The application's task while it waits for more.
    reader: Option<Waker>,
}

/// The stream that the application reads.
pub(super) struct RequestPayload(Rc<InboundBody>);

impl InboundBody {
    pub(super) fn new(mut source: RecvStream, connection: Rc<ConnectionState>) -> Rc<Self> {
        let stream = source.stream_id().as_u32();
        let window = source.flow_control().clone();
        let state = BodyState {
            stream: Some(source),
            window: Some(window),
            pieces: PieceQueue::default(),
            end: None,
            reader: None,
        };
        Rc::new(Self { connection, stream, state: RefCell::new(state) })
    }

    /// Returns the stream that the application reads.
    pub(super) fn payload(self: &Rc<Self>) -> RequestPayload {
        RequestPayload(Rc::clone(self))
    }

    /// Moves received DATA out of `h2`, and wakes the application if it waits for it.
    pub(super) fn receive(&self, cx: &mut Context<'_>) {
        let mut state = self.state.borrow_mut();
        while let Poll::Ready(Some(piece)) = state.poll_h2(cx, self) {
            state.pieces.push(piece);
        }
        if (!state.pieces.is_empty() || state.end.is_some())
            && let Some(reader) = state.reader.take()
        {
            reader.wake();
        }
    }

    /// Whether the application waits for more of the body.
    pub(super) fn is_awaited(&self) -> bool {
        self.state.borrow().reader.is_some()
    }

    /// Whether the client sent malformed trailers.
    pub(super) fn is_malformed(&self) -> bool {
        self.state.borrow().end == Some(BodyEnd::Malformed)
    }

    /// Drops the body. `h2` discards further DATA.
    pub(super) fn abandon(&self) {
        let mut state = self.state.borrow_mut();
        state.stream = None;
        state.window = None;
        state.pieces = PieceQueue::default();
        if state.end != Some(BodyEnd::Malformed) {
            state.end = Some(BodyEnd::Abandoned);
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let mut state = self.state.borrow_mut();
        let piece = match state.pieces.pop() {
            Some(piece) => Poll::Ready(Some(piece)),
            None => state.poll_h2(cx, self),
        };
        match piece {
            Poll::Ready(Some(piece)) => {
                state.release_window(piece.len());
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(None) if state.end == Some(BodyEnd::Complete) => Poll::Ready(None),
            Poll::Ready(None) => {
                let error = io::Error::from(io::ErrorKind::ConnectionReset);
                Poll::Ready(Some(Err(PayloadError::Io(error))))
            }
            Poll::Pending => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl BodyState {
    /// The next bytes from `h2`; `None` at the end, after `end` was set.
    fn poll_h2(&mut self, cx: &mut Context<'_>, of: &InboundBody) -> Poll<Option<Bytes>> {
        while let Some(source) = &mut self.stream {
            match source.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() => {}
                Poll::Ready(Some(Ok(piece))) => return Poll::Ready(Some(piece)),
                Poll::Ready(Some(Err(_))) => self.set_end(BodyEnd::Aborted),
                Poll::Ready(None) => match source.poll_trailers(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(trailers)) => {
                        let is_valid = trailers.is_none_or(|trailers| check_values(&trailers).is_ok())
                            && !of.connection.take_malformed(of.stream);
                        self.set_end(if is_valid { BodyEnd::Complete } else { BodyEnd::Malformed });
                    }
                    Poll::Ready(Err(_)) => self.set_end(BodyEnd::Aborted),
                },
            }
        }
        Poll::Ready(None)
    }

    fn set_end(&mut self, end: BodyEnd) {
        self.stream = None;
        self.end = Some(end);
    }

    /// Returns window for bytes that the application has read.
    fn release_window(&mut self, bytes: usize) {
        if let Some(window) = &mut self.window {
            // An error means that the stream is closed and needs no window.
            let _ = window.release_capacity(bytes);
        }
    }
}

impl Stream for RequestPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_read(cx)
    }
}

impl Drop for RequestPayload {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
