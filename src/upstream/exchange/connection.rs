//! One connection to an upstream. It counts itself and reports the end of the stream as an error.
//!
//! awc takes a closed connection for the end of a chunked body, so a truncated response would look complete (T6).
//! Here the end of the stream is an error of its own kind, and the response body decides whether a close may end it.
//! The connection sends a streamed body after the head that awc writes (`body_writer.rs`). An early response is kept,
//! and the rest of the body is not sent (`call_context.rs`). The version of a close-delimited response is rewritten
//! (`head_scan.rs`).
//!
//! Design: `docs/design/connections.md`.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffers::{BufferRetention, OpenSocket};
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::connect::stream::UpstreamStream;
use crate::upstream::exchange::body_writer::RequestBodyWriter;
use crate::upstream::exchange::call_context;
use crate::upstream::exchange::head_scan::{HeadScan, rewrite_version};

/// A counted connection that detects a response before the request body is written.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    /// Dropped before the stream.
    socket: OpenSocket,
    stream: UpstreamStream,
    open: Arc<AtomicUsize>,
    /// The body that is being sent, and its progress.
    sending: Option<(RequestBodyWriter, Rc<UploadProgress>)>,
    early: EarlyResponse,
    head: HeadState,
}

/// How much of the head of the next response has arrived.
#[derive(Debug)]
enum HeadState {
    /// No head is expected: the next bytes are body.
    Body,
    /// A request was written. The bytes so far are kept until the head is complete.
    Expected(BytesMut),
    /// The head arrived in pieces. These bytes are still to be returned by reads.
    Buffered(BytesMut),
}

/// A response that arrived before the end of the request body.
#[derive(Debug)]
enum EarlyResponse {
    /// There is none.
    Absent,
    /// A final response to this call. Its first bytes are still to be returned by reads.
    Final(BytesMut, Rc<UploadProgress>),
}

const EARLY_BYTES_MAX: usize = 8 << 10;
/// A longer head is forwarded as it is; the decoder rejects it.
const HEAD_BYTES_MAX: usize = 128 << 10;

impl UpstreamConnection {
    /// `keeps` is how the connection keeps its receive buffer between large bodies.
    pub(crate) fn new(stream: UpstreamStream, open: Arc<AtomicUsize>, keeps: BufferRetention) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        let socket = OpenSocket::new(Some(stream.descriptor()), keeps);
        Self { socket, stream, open, sending: None, early: EarlyResponse::Absent, head: HeadState::Body }
    }

    /// Sends the body. Ready once all of it is written, or once the upstream has responded early.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.poll_early_response(cx) {
            self.sending = None;
            return Poll::Ready(result);
        }
        let Some((writer, _)) = &mut self.sending else { return Poll::Ready(Ok(())) };
        let written = ready!(writer.poll(&mut self.stream, cx));
        // An upstream that responds and closes resets the rest of the upload. Its response may have arrived anyway.
        let has_response = written.is_err() && matches!(self.poll_early_response(cx), Poll::Ready(Ok(())));
        self.sending = None;
        Poll::Ready(if has_response { Ok(()) } else { written })
    }

    /// Polls for a response while a body is being sent. An error is the end of the connection.
    fn poll_early_response(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some((_, upload_progress)), HeadState::Expected(bytes)) = (&self.sending, &mut self.head) else {
            return Poll::Pending;
        };
        loop {
            if ready!(self.stream.poll_read_available(cx, bytes, EARLY_BYTES_MAX))? == 0 {
                return Poll::Ready(Err(closed_error()));
            }
            if skip_interim(bytes) || bytes.len() >= HEAD_BYTES_MAX {
                self.early = EarlyResponse::Final(std::mem::take(bytes), Rc::clone(upload_progress));
                self.head = HeadState::Body;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether the bytes just read may be returned. A partial head is kept back until it is complete.
    fn filter_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let HeadState::Expected(bytes) = &mut self.head else { return true };
        if bytes.is_empty() && rewrite_version(&mut buf.filled_mut()[before..]) == HeadScan::Complete {
            self.head = HeadState::Body;
            return true;
        }
        bytes.extend_from_slice(&buf.filled()[before..]);
        buf.set_filled(before);
        if !skip_interim(bytes) && bytes.len() < HEAD_BYTES_MAX {
            return false;
        }
        let mut bytes = std::mem::take(bytes);
        drain_into(buf, &mut bytes);
        self.head = if bytes.is_empty() { HeadState::Body } else { HeadState::Buffered(bytes) };
        true
    }

    /// Called for each write: awc writes requests only.
    fn expect_response(&mut self) {
        if matches!((&self.early, &self.head), (EarlyResponse::Absent, HeadState::Body)) {
            self.head = HeadState::Expected(BytesMut::new());
        }
    }
}

fn closed_error() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed the connection")
}

/// Removes interim responses (1xx), which awc would take for the final one, and rewrites the version of the head
/// after them.
fn skip_interim(bytes: &mut BytesMut) -> bool {
    loop {
        match rewrite_version(bytes) {
            HeadScan::Interim { length } => bytes.advance(length),
            HeadScan::Partial => return false,
            HeadScan::Complete => return true,
        }
    }
}

fn drain_into(buf: &mut ReadBuf<'_>, bytes: &mut BytesMut) {
    let count = bytes.len().min(buf.remaining());
    buf.put_slice(&bytes.split_to(count));
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for UpstreamConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.early {
            EarlyResponse::Absent => {}
            EarlyResponse::Final(_, upload_progress) if call_context::is_other_call(upload_progress) => {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "the connection has an early response to another call",
                )));
            }
            EarlyResponse::Final(bytes, _) if !bytes.is_empty() => {
                drain_into(buf, bytes);
                return Poll::Ready(Ok(()));
            }
            EarlyResponse::Final(..) => {}
        }
        if let HeadState::Buffered(bytes) = &mut self.head {
            drain_into(buf, bytes);
            if bytes.is_empty() {
                self.head = HeadState::Body;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before && buf.remaining() > 0 {
                return Poll::Ready(Err(closed_error()));
            }
            if self.filter_read(buf, before) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for UpstreamConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.expect_response();
        // awc writes a head in one piece.
        if let Some((upload, upload_progress)) = call_context::attach_connection(self.socket.buffers()) {
            upload_progress.set_upstream_socket(self.socket.buffers());
            self.sending = Some((RequestBodyWriter::new(upload, bytes), upload_progress));
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sending.is_some() {
            return self.poll_body(cx);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl ActixStream for UpstreamConnection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.stream, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.stream, cx)
    }
}
