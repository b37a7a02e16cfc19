//! One connection to an upstream, counted, with an end of stream that cannot be overlooked.
//!
//! awc takes a closed connection for the end of a chunked body, so a truncated answer would look whole (T6). Here the
//! end of the stream is an error of its own kind; the answer's body knows whether a close may end it. A streamed body is sent
//! here, behind the head that awc writes, see `pump.rs`; an answer that comes before its end is kept and the rest is not
//! sent, see `early.rs`. An answer whose body only the close ends is mended, see `head.rs`.

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
use crate::upstream::body_writer::RequestBodyWriter;
use crate::upstream::call_context;
use crate::upstream::head_scan::{HeadScan, rewrite_version};
use crate::upstream::stream::UpstreamStream;
use crate::upstream::upload_progress::UploadProgress;

/// A connection that counts itself and notices an answer that comes before its request is written.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    /// Dropped before the stream.
    socket: OpenSocket,
    stream: UpstreamStream,
    open: Arc<AtomicUsize>,
    /// The body of the request under way, and how it is getting on.
    sending: Option<(RequestBodyWriter, Rc<UploadProgress>)>,
    early: EarlyResponse,
    head: HeadState,
}

/// How far the head of the next answer has come.
#[derive(Debug)]
enum HeadState {
    /// None is due: what comes is body.
    Body,
    /// A request was written. What has come so far is kept until it is a whole head.
    Expected(BytesMut),
    /// It came in pieces; these bytes are still to be handed on.
    Buffered(BytesMut),
}

/// How far an answer has come that came too early.
#[derive(Debug)]
enum EarlyResponse {
    /// Nothing has come.
    Absent,
    /// A final answer to this call. Its first bytes are still to be read.
    Final(BytesMut, Rc<UploadProgress>),
}

const EARLY_BYTES_MAX: usize = 8 << 10;
/// A head longer than this is handed on as it is; the decoder refuses it.
const HEAD_BYTES_MAX: usize = 128 << 10;

impl UpstreamConnection {
    /// `keeps` is what it keeps of its receive buffer between large bodies.
    pub(crate) fn new(stream: UpstreamStream, open: Arc<AtomicUsize>, keeps: BufferRetention) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        let socket = OpenSocket::new(Some(stream.descriptor()), keeps);
        Self { socket, stream, open, sending: None, early: EarlyResponse::Absent, head: HeadState::Body }
    }

    /// Sends the body on; ready once all of it is written, or the upstream has answered before that.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.poll_early_response(cx) {
            self.sending = None;
            return Poll::Ready(result);
        }
        let Some((pump, _)) = &mut self.sending else { return Poll::Ready(Ok(())) };
        let written = ready!(pump.poll(&mut self.stream, cx));
        // An upstream that answers and closes resets what is still written; its answer may be there all the same.
        let has_response = written.is_err() && matches!(self.poll_early_response(cx), Poll::Ready(Ok(())));
        self.sending = None;
        Poll::Ready(if has_response { Ok(()) } else { written })
    }

    /// Whether the upstream answers while a body is being sent; an error is the end of the connection.
    fn poll_early_response(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some((_, flow)), HeadState::Expected(kept)) = (&self.sending, &mut self.head) else {
            return Poll::Pending;
        };
        loop {
            if ready!(self.stream.poll_read_available(cx, kept, EARLY_BYTES_MAX))? == 0 {
                return Poll::Ready(Err(closed_error()));
            }
            if skip_interim(kept) || kept.len() >= HEAD_BYTES_MAX {
                self.early = EarlyResponse::Final(std::mem::take(kept), Rc::clone(flow));
                self.head = HeadState::Body;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether what was just read may be handed on; a part of a head is kept back until it can be looked at whole.
    fn filter_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let HeadState::Expected(kept) = &mut self.head else { return true };
        if kept.is_empty() && rewrite_version(&mut buf.filled_mut()[before..]) == HeadScan::Complete {
            self.head = HeadState::Body;
            return true;
        }
        kept.extend_from_slice(&buf.filled()[before..]);
        buf.set_filled(before);
        if !skip_interim(kept) && kept.len() < HEAD_BYTES_MAX {
            return false;
        }
        let mut bytes = std::mem::take(kept);
        drain_into(buf, &mut bytes);
        self.head = if bytes.is_empty() { HeadState::Body } else { HeadState::Buffered(bytes) };
        true
    }

    /// What awc writes is a request.
    fn expect_response(&mut self) {
        if matches!((&self.early, &self.head), (EarlyResponse::Absent, HeadState::Body)) {
            self.head = HeadState::Expected(BytesMut::new());
        }
    }
}

fn closed_error() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed the connection")
}

/// Leaves interim answers (1xx) out, which awc would take for the final one, and mends the head behind them.
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
            EarlyResponse::Final(_, flow) if call_context::is_other_call(flow) => {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "the connection has answered early",
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
        if let Some((upload, flow)) = call_context::attach_connection(self.socket.buffers()) {
            flow.set_upstream_socket(self.socket.buffers());
            self.sending = Some((RequestBodyWriter::new(upload, bytes), flow));
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
