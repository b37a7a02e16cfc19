//! The body of one request, from `h2` to the application.
//!
//! Two readers share it. The application reads through [`Payload`]; while it does not, the stream's task takes DATA frames from `h2` with
//! [`Inbound::collect`] and joins them, because `h2` keeps every frame as it came. The client's window opens again only when the
//! application has read, so at most one stream window lies here. When nobody will read the body any more, it is dropped, and `h2`
//! discards what still comes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use h2::{FlowControl, RecvStream};

use super::connection_state::ConnectionState;
use super::request::check_values;
use crate::s3::pieces::Pieces;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As it should.
    Whole,
    /// The client reset the stream, or the connection ended.
    Broken,
    /// The trailers are malformed.
    Malformed,
    /// Nobody reads it any more.
    Abandoned,
}

/// One request's body. Lives on one thread.
pub(super) struct Inbound {
    connection: Rc<ConnectionState>,
    stream: u32,
    state: RefCell<State>,
}

struct State {
    source: Option<RecvStream>,
    window: Option<FlowControl>,
    pieces: Pieces,
    end: Option<End>,
    /// The application, where it waits for more.
    reader: Option<Waker>,
}

/// What the application reads.
pub(super) struct Payload(Rc<Inbound>);

impl Inbound {
    pub(super) fn new(mut source: RecvStream, connection: Rc<ConnectionState>) -> Rc<Self> {
        let stream = source.stream_id().as_u32();
        let window = source.flow_control().clone();
        let state = State {
            source: Some(source),
            window: Some(window),
            pieces: Pieces::default(),
            end: None,
            reader: None,
        };
        Rc::new(Self { connection, stream, state: RefCell::new(state) })
    }

    /// What the application reads.
    pub(super) fn payload(self: &Rc<Self>) -> Payload {
        Payload(Rc::clone(self))
    }

    /// Takes what has come while the application does not read, and wakes the application if it waits.
    pub(super) fn collect(&self, cx: &mut Context<'_>) {
        let mut state = self.state.borrow_mut();
        while let Poll::Ready(Some(piece)) = state.poll_source(cx, self) {
            state.pieces.push(piece);
        }
        if (!state.pieces.is_empty() || state.end.is_some())
            && let Some(reader) = state.reader.take()
        {
            reader.wake();
        }
    }

    /// Whether the client sent trailers that RFC 9113 forbids.
    pub(super) fn is_malformed(&self) -> bool {
        self.state.borrow().end == Some(End::Malformed)
    }

    /// Drops the body. What still comes of it is discarded.
    pub(super) fn abandon(&self) {
        let mut state = self.state.borrow_mut();
        state.source = None;
        state.window = None;
        state.pieces = Pieces::default();
        if state.end != Some(End::Malformed) {
            state.end = Some(End::Abandoned);
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let mut state = self.state.borrow_mut();
        let piece = match state.pieces.pop() {
            Some(piece) => Poll::Ready(Some(piece)),
            None => state.poll_source(cx, self),
        };
        match piece {
            Poll::Ready(Some(piece)) => {
                state.release(piece.len());
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(None) if state.end == Some(End::Whole) => Poll::Ready(None),
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

impl State {
    /// The next bytes from `h2`; none at the end, which `end` then tells.
    fn poll_source(&mut self, cx: &mut Context<'_>, of: &Inbound) -> Poll<Option<Bytes>> {
        while let Some(source) = &mut self.source {
            match source.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() => {}
                Poll::Ready(Some(Ok(piece))) => return Poll::Ready(Some(piece)),
                Poll::Ready(Some(Err(_))) => self.ended(End::Broken),
                Poll::Ready(None) => match source.poll_trailers(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(trailers)) => {
                        let is_sound = trailers.is_none_or(|trailers| check_values(&trailers).is_ok())
                            && !of.connection.take_malformed(of.stream);
                        self.ended(if is_sound { End::Whole } else { End::Malformed });
                    }
                    Poll::Ready(Err(_)) => self.ended(End::Broken),
                },
            }
        }
        Poll::Ready(None)
    }

    fn ended(&mut self, end: End) {
        self.source = None;
        self.end = Some(end);
    }

    /// The application has read so many bytes: the client may send as many again.
    fn release(&mut self, bytes: usize) {
        if let Some(window) = &mut self.window {
            // An error says that the stream is gone, and its window with it.
            let _ = window.release_capacity(bytes);
        }
    }
}

impl Stream for Payload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_read(cx)
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
