//! Writes a request body to the connection.
//!
//! awc collects 8 KiB before it writes, including the request head, and polls its connection only to write. While a
//! client pauses in mid-upload, the upstream would not receive the bytes that have arrived, and the gateway would not
//! see an early response. So awc gets a request without a body, and the connection (`connection.rs`) sends the body
//! after the head: without delay, several pieces in one system call, and without a copy.
//!
//! Framing follows RFC 9112: a length if it is known, otherwise chunks. Trailers are not supported; no request here
//! has them.
//!
//! Design: `docs/design/uploads.md`.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidegate_s3::pieces::PieceQueue;
use tokio::io::AsyncWrite;

use crate::upstream::body::Upload;
use crate::upstream::connect::stream::UpstreamStream;

/// The maximum of bytes that are polled from the body before they are written.
const OUT_BYTES_MAX: usize = 64 << 10;
/// Pieces in one system call.
const SLICES_MAX: usize = 16;

/// The head and the body of one request.
pub(crate) struct RequestBodyWriter {
    upload: Box<Upload>,
    /// Remaining bytes of the body if the length is known. None: chunked.
    left: Option<u64>,
    out: PieceQueue,
    out_bytes: usize,
    has_ended: bool,
}

impl fmt::Debug for RequestBodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBodyWriter")
            .field("left", &self.left)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

impl RequestBodyWriter {
    /// `head` is the request head as awc wrote it for a request without a body.
    pub(crate) fn new(upload: Box<Upload>, head: &[u8]) -> Self {
        let left = upload.size();
        let head = with_framing(head, left);
        let out_bytes = head.len();
        let mut out = PieceQueue::default();
        out.push(head);
        Self { upload, left, out, out_bytes, has_ended: false }
    }

    /// Writes the bytes that are there. Ready once the whole body is written.
    pub(crate) fn poll(&mut self, stream: &mut UpstreamStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.fill(cx)?;
            if self.out.is_empty() {
                // TLS may have buffered bytes.
                let flushed = Pin::new(&mut *stream).poll_flush(cx)?;
                return if self.has_ended { flushed.map(Ok) } else { Poll::Pending };
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.out.fill_slices(&mut slices);
            let Poll::Ready(written) = Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count])
            else {
                return self.upload.poll_cut(cx).map(|cut| Err(io::Error::other(cut)));
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.has_ended && self.out_bytes < OUT_BYTES_MAX {
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

    fn advance(&mut self, written: usize) {
        self.out_bytes -= written;
        self.out.advance(written);
    }
}

/// Inserts the framing header after the first line of the head.
fn with_framing(head: &[u8], length: Option<u64>) -> Bytes {
    let line = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let framing = match length {
        Some(bytes) => format!("content-length: {bytes}\r\n"),
        None => "transfer-encoding: chunked\r\n".to_owned(),
    };
    [&head[..line], framing.as_bytes(), &head[line..]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V5
    #[test]
    fn a_head_has_the_framing_of_its_body() {
        let head = b"PUT /k HTTP/1.1\r\nhost: a\r\n\r\n";
        let sized = with_framing(head, Some(70_000));
        assert_eq!(sized, &b"PUT /k HTTP/1.1\r\ncontent-length: 70000\r\nhost: a\r\n\r\n"[..]);
        let chunked = with_framing(head, None);
        assert_eq!(chunked, &b"PUT /k HTTP/1.1\r\ntransfer-encoding: chunked\r\nhost: a\r\n\r\n"[..]);
    }
}
