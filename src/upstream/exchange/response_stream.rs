//! The body of a response, read as it is polled.
//!
//! At its last byte the connection returns to its pool, if nothing speaks against it: the upstream keeps it, the request was written
//! whole, and no byte follows the body. In all other cases it closes, and so it does if the body is dropped before its end. Trailers are
//! dropped. Long pieces are slices of the read buffer; short chunks are collected into one piece.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tidegate_actors::clock;

use crate::body_framing::{BodyDecoder, DecodeStep, FramingError};
use crate::buffers::pipe::PipedBytes;
use crate::upstream::exchange::connection::UpstreamTransport;
use crate::upstream::exchange::memory::ReadBuffer;
use crate::upstream::exchange::pool::{EndpointPool, PooledConnection};
use crate::upstream::exchange::response_framing::{Persistence, UpstreamFraming};

/// A shorter chunk is copied: as a slice it would keep the whole read buffer in memory.
const PIECE_BYTES_MIN: usize = 1 << 10;

/// The rest of a body.
pub(super) struct ResponseStream<S> {
    /// None once the body has ended or failed.
    connection: Option<PooledConnection<S>>,
    pool: Rc<EndpointPool<S>>,
    buffer: ReadBuffer,
    /// None if the close of the connection ends the body.
    decoder: Option<BodyDecoder>,
    persistence: Persistence,
    /// What is wrong with the framing after the last piece.
    fault: Option<FramingError>,
}

/// What the received bytes contain.
enum Received {
    Piece(Bytes),
    End,
    NeedMore,
}

impl<S: UpstreamTransport> ResponseStream<S> {
    /// `buffer` has the bytes after the head.
    pub(super) fn new(
        pool: &Rc<EndpointPool<S>>,
        connection: PooledConnection<S>,
        buffer: ReadBuffer,
        (framing, persistence): (UpstreamFraming, Persistence),
    ) -> Self {
        let decoder = framing.body_length().map(|length| BodyDecoder::new(length).allowing_space());
        let pool = Rc::clone(pool);
        let mut body = Self { connection: Some(connection), pool, buffer, decoder, persistence, fault: None };
        if body.decoder.as_ref().is_some_and(|decoder| decoder.has_ended() || decoder.left() == Some(0)) {
            body.finish();
        }
        body
    }

    /// Ends the body. The connection returns to the pool or closes.
    fn finish(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if let Persistence::Persists(idle_max) = self.persistence
            && self.buffer.bytes.is_empty()
        {
            self.pool.release(connection, idle_max, clock::now());
        }
    }

    /// Moves the next bytes into the pipe of the thread, at most `max`. None if they must be read: some are in the read buffer, the length
    /// is unknown, or the connection has no pipe for them. Ends the body with its last byte.
    pub(super) fn poll_piped(
        &mut self,
        cx: &mut Context<'_>,
        max: u64,
    ) -> Poll<io::Result<Option<PipedBytes>>> {
        let (Some(pooled), Some(decoder)) = (&self.connection, &mut self.decoder) else {
            return Poll::Ready(Ok(None));
        };
        let Some(left) = decoder.left().filter(|_| self.buffer.bytes.is_empty()) else {
            return Poll::Ready(Ok(None));
        };
        let piped = match ready!(pooled.connection.poll_piped(cx, left.min(max))) {
            Ok(piped) => piped,
            Err(error) => {
                self.connection = None;
                return Poll::Ready(Err(error));
            }
        };
        if let Some(piped) = &piped {
            decoder.skip(piped.bytes() as u64);
            if decoder.has_ended() {
                self.finish();
            }
        }
        Poll::Ready(Ok(piped))
    }

    fn fail(&mut self, error: io::Error) -> Poll<Option<io::Result<Bytes>>> {
        self.connection = None;
        Poll::Ready(Some(Err(error)))
    }

    /// The next piece of the received bytes. Ends the body with its last piece, not after it.
    fn take_piece(&mut self) -> Result<Received, FramingError> {
        let Some(decoder) = &mut self.decoder else {
            let bytes = &mut self.buffer.bytes;
            return Ok(match bytes.is_empty() {
                true => Received::NeedMore,
                false => Received::Piece(bytes.split().freeze()),
            });
        };
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let is_chunked = decoder.left().is_none();
        let mut collected = BytesMut::new();
        loop {
            if !collected.is_empty() && decoder.data_ahead() >= PIECE_BYTES_MIN as u64 {
                return Ok(Received::Piece(collected.freeze()));
            }
            let step = match decoder.step(&self.buffer.bytes) {
                Ok(step) => step,
                // The data before it was sent as data.
                Err(fault) if !collected.is_empty() => {
                    self.fault = Some(fault);
                    return Ok(Received::Piece(collected.freeze()));
                }
                Err(fault) => return Err(fault),
            };
            let has_ended = decoder.has_ended();
            match step {
                DecodeStep::Framing(bytes) => self.buffer.bytes.advance(bytes),
                DecodeStep::Data(bytes) if is_chunked && bytes < PIECE_BYTES_MIN => {
                    collected.extend_from_slice(&self.buffer.bytes[..bytes]);
                    self.buffer.bytes.advance(bytes);
                }
                DecodeStep::Data(bytes) => {
                    let piece = self.buffer.bytes.split_to(bytes).freeze();
                    self.end_after(has_ended);
                    return Ok(Received::Piece(piece));
                }
                DecodeStep::End | DecodeStep::NeedMore => {
                    if has_ended {
                        self.finish();
                    }
                    return Ok(match (collected.is_empty(), has_ended) {
                        (false, _) => Received::Piece(collected.freeze()),
                        (true, true) => Received::End,
                        (true, false) => Received::NeedMore,
                    });
                }
            }
        }
    }

    /// Called after a piece: the end of the body may be among the received bytes.
    fn end_after(&mut self, mut has_ended: bool) {
        while let Some(decoder) = &mut self.decoder
            && !has_ended
            && decoder.data_ahead() == 0
        {
            match decoder.step(&self.buffer.bytes) {
                Ok(DecodeStep::Framing(bytes)) => self.buffer.bytes.advance(bytes),
                Ok(_) => break,
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            }
            has_ended = decoder.has_ended();
        }
        if has_ended {
            self.finish();
        }
    }
}

impl<S: UpstreamTransport> Stream for ResponseStream<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        loop {
            if this.connection.is_none() {
                return Poll::Ready(None);
            }
            match this.take_piece() {
                Ok(Received::Piece(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(Received::End) => return Poll::Ready(None),
                Ok(Received::NeedMore) => {}
                Err(fault) => return this.fail(io::Error::new(io::ErrorKind::InvalidData, fault)),
            }
            let Some(pooled) = &mut this.connection else { return Poll::Ready(None) };
            let ahead = this.decoder.as_ref().map_or(u64::MAX, BodyDecoder::data_ahead);
            this.buffer.reserve(ahead);
            match ready!(pooled.connection.poll_read(cx, &mut this.buffer.bytes)) {
                Ok(_) => {}
                Err(error) if this.decoder.is_none() && error.kind() == io::ErrorKind::UnexpectedEof => {
                    this.finish();
                }
                Err(error) => return this.fail(error),
            }
        }
    }
}
