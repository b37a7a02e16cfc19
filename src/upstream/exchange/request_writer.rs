//! Writes the head and the body of a request to the connection: without delay, several pieces in one system call, and without a copy.
//!
//! Framing follows RFC 9112: a length if it is known, otherwise chunks. Trailers are not supported; no request here has them. A writer is
//! not bound to a connection: what it has written can be written again to another one, unless a part of a streamed body was.
//!
//! Design: `docs/design/uploads.md`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tidegate_s3::pieces::PieceQueue;
use tokio::io::AsyncWrite;

use crate::upstream::body::Upload;
use crate::upstream::exchange::memory;
use crate::upstream::exchange::outbound_head::{OutboundHead, RequestFraming};

/// The maximum of bytes that are polled from the body before they are written.
const OUT_BYTES_MAX: usize = 64 << 10;
/// Pieces in one system call.
const SLICES_MAX: usize = 16;
/// A shorter body is copied behind the head: a separate slice costs more in the kernel than the copy.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// The body of a request.
pub(crate) enum OutboundBody {
    /// No body and no `Content-Length`.
    None,
    /// Bytes in memory.
    Buffered(Bytes),
    /// A stream.
    Streamed(Box<Upload>),
}

/// A request that is being written.
pub(super) struct RequestWriter {
    /// Written before the body. It contains a short body.
    head: Vec<u8>,
    head_written: usize,
    body: BodyWriter,
    /// The bytes of the body that are written, with their framing.
    body_written: u64,
    is_complete: bool,
}

enum BodyWriter {
    None,
    Buffered(Bytes),
    Streamed(StreamWriter),
}

/// A streamed body that is being written.
struct StreamWriter {
    upload: Box<Upload>,
    /// Remaining bytes of the body if the length is known. None: chunked.
    left: Option<u64>,
    out: PieceQueue,
    out_bytes: usize,
    is_polled: bool,
    has_ended: bool,
}

impl RequestWriter {
    /// Encodes the head. `closes`: the connection serves this request only.
    pub(super) fn new(head: &OutboundHead, body: OutboundBody, closes: bool) -> Self {
        let framing = match &body {
            OutboundBody::None => RequestFraming::NoBody,
            OutboundBody::Buffered(bytes) => RequestFraming::Length(bytes.len() as u64),
            OutboundBody::Streamed(upload) => {
                upload.size().map_or(RequestFraming::Chunked, RequestFraming::Length)
            }
        };
        let mut bytes = memory::take_head();
        head.write(&mut bytes, framing, closes);
        let body = match body {
            OutboundBody::None => BodyWriter::None,
            OutboundBody::Buffered(body) if body.len() <= COPIED_BYTES_MAX => {
                bytes.extend_from_slice(&body);
                BodyWriter::None
            }
            OutboundBody::Buffered(body) => BodyWriter::Buffered(body),
            OutboundBody::Streamed(upload) => BodyWriter::Streamed(StreamWriter::new(upload)),
        };
        Self { head: bytes, head_written: 0, body, body_written: 0, is_complete: false }
    }

    /// Whether the body is a stream, so that a response may arrive long before its end.
    pub(super) fn is_streamed(&self) -> bool {
        matches!(self.body, BodyWriter::Streamed(_))
    }

    /// Whether the whole request is written.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether a byte is written.
    pub(super) fn has_written(&self) -> bool {
        self.head_written > 0
    }

    /// The written bytes of a streamed body.
    pub(super) fn streamed_bytes(&self) -> u64 {
        if self.is_streamed() { self.body_written } else { 0 }
    }

    /// Starts again, for another connection. False if a part of a streamed body was written, which is lost.
    pub(super) fn rewind(&mut self) -> bool {
        if self.streamed_bytes() > 0 {
            return false;
        }
        (self.head_written, self.body_written, self.is_complete) = (0, 0, false);
        true
    }

    /// The streamed body, if no byte of it was read from the client.
    pub(super) fn reclaim_upload(&mut self) -> Option<Box<Upload>> {
        match std::mem::replace(&mut self.body, BodyWriter::None) {
            BodyWriter::Streamed(stream) if !stream.is_polled => Some(stream.upload),
            _ => None,
        }
    }

    /// Writes the bytes that are there. Ready once the whole request is written.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut has_ended = true;
            if let BodyWriter::Streamed(body) = &mut self.body {
                body.fill(cx)?;
                has_ended = body.has_ended;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.fill_slices(&mut slices);
            if count == 0 {
                // TLS may have buffered bytes.
                let flushed = Pin::new(&mut *stream).poll_flush(cx)?;
                return if has_ended && flushed.is_ready() {
                    self.is_complete = true;
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            let written = match count {
                1 => Pin::new(&mut *stream).poll_write(cx, &slices[0]),
                _ => Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]),
            };
            let Poll::Ready(written) = written else { return self.poll_cut(cx) };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    /// Called while the upstream accepts no bytes.
    fn poll_cut(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let BodyWriter::Streamed(body) = &self.body else { return Poll::Pending };
        let cut = ready!(body.upload.poll_cut(cx));
        Poll::Ready(Err(io::Error::other(cut)))
    }

    /// Points the slices at the bytes to write. Returns the number of slices used.
    fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut count = 0;
        if self.head_written < self.head.len() {
            slices[0] = IoSlice::new(&self.head[self.head_written..]);
            count = 1;
        }
        match &self.body {
            BodyWriter::None => count,
            BodyWriter::Buffered(bytes) => {
                let rest = &bytes[usize::try_from(self.body_written).unwrap_or(bytes.len())..];
                if !rest.is_empty() {
                    slices[count] = IoSlice::new(rest);
                    count += 1;
                }
                count
            }
            BodyWriter::Streamed(body) => count + body.out.fill_slices(&mut slices[count..]),
        }
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len() - self.head_written);
        let of_body = written - of_head;
        self.head_written += of_head;
        self.body_written += of_body as u64;
        if let BodyWriter::Streamed(body) = &mut self.body {
            body.out_bytes -= of_body;
            body.out.advance(of_body);
        }
    }
}

impl Drop for RequestWriter {
    fn drop(&mut self) {
        memory::keep_head(std::mem::take(&mut self.head));
    }
}

impl StreamWriter {
    fn new(upload: Box<Upload>) -> Self {
        let left = upload.size();
        Self { upload, left, out: PieceQueue::default(), out_bytes: 0, is_polled: false, has_ended: false }
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.has_ended && self.out_bytes < OUT_BYTES_MAX {
            self.is_polled = true;
            match self.upload.poll_piece(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(piece)) => self.push_piece(piece.map_err(io::Error::other)?)?,
                Poll::Ready(None) => self.finish()?,
            }
        }
        Ok(())
    }

    fn push_piece(&mut self, piece: Bytes) -> io::Result<()> {
        let bytes = piece.len() as u64;
        if bytes == 0 {
            return Ok(());
        }
        let Some(left) = &mut self.left else {
            self.push(format!("{bytes:x}\r\n").into());
            self.push(piece);
            self.push(Bytes::from_static(b"\r\n"));
            return Ok(());
        };
        // The upload is checked against its length earlier. Here extra bytes would become the beginning of another
        // request.
        let Some(rest) = left.checked_sub(bytes) else {
            return Err(io::Error::other(self.upload.fail_length(true)));
        };
        *left = rest;
        self.push(piece);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.has_ended = true;
        match self.left {
            None => self.push(Bytes::from_static(b"0\r\n\r\n")),
            Some(0) => {}
            Some(_) => return Err(io::Error::other(self.upload.fail_length(false))),
        }
        Ok(())
    }

    fn push(&mut self, bytes: Bytes) {
        self.out_bytes += bytes.len();
        self.out.push(bytes);
    }
}
