//! The bytes that wait to be written to one connection, in order.
//!
//! Heads, framing and short pieces of bodies are collected in one buffer; long pieces are referenced. All of it is
//! sent in vectored writes, so a long body is never copied and a short response is one piece of memory.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::listener::http1::encode::write_chunk_size;

/// A shorter piece of a body is copied: a separate slice costs more in the kernel than the copy.
const SLICE_BYTES_MIN: usize = 4 << 10;
/// The most slices of one write.
const SLICES_MAX: usize = 32;
/// The bytes of capacity that the buffer keeps while it is empty.
const BUFFER_BYTES: usize = 8 << 10;

/// Written bytes are removed from the buffer in blocks of this size while the buffer is never empty.
const COMPACT_BYTES: usize = 64 << 10;

/// One part of the waiting bytes.
enum BufferPart {
    /// This number of bytes of the buffer.
    Buffered(usize),
    /// Bytes of a body.
    Long(Bytes),
}

/// The waiting bytes.
#[derive(Default)]
pub(super) struct WriteBuffer {
    buffer: Vec<u8>,
    /// The number of bytes of the buffer that are written.
    written: usize,
    parts: VecDeque<BufferPart>,
    bytes: usize,
}

impl WriteBuffer {
    /// The number of bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frees memory while the buffer is empty.
    pub(super) fn shrink(&mut self) {
        self.buffer.shrink_to(BUFFER_BYTES);
    }

    /// Appends the bytes that `write` writes.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.buffer.len();
        write(&mut self.buffer);
        let added = self.buffer.len() - before;
        self.bytes += added;
        if added == 0 {
            return;
        }
        match self.parts.back_mut() {
            Some(BufferPart::Buffered(bytes)) => *bytes += added,
            _ => self.parts.push_back(BufferPart::Buffered(added)),
        }
    }

    /// Appends a piece of a body.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() < SLICE_BYTES_MIN {
            self.write(|buffer| buffer.extend_from_slice(&piece));
        } else {
            self.bytes += piece.len();
            self.parts.push_back(BufferPart::Long(piece));
        }
    }

    /// Appends a piece of a body as a chunk.
    pub(super) fn push_chunk(&mut self, piece: Bytes) {
        self.write(|buffer| write_chunk_size(buffer, piece.len()));
        self.push(piece);
        self.write(|buffer| buffer.extend_from_slice(b"\r\n"));
    }

    /// Writes until the buffer is empty or the socket is full; calls `sent` with the number of bytes of each write.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        mut sent: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        while self.bytes > 0 {
            let written = ready!(self.poll_write_once(cx, stream))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            sent(written);
            self.advance(written);
        }
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_write_once<S: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        if let (1, Some(BufferPart::Buffered(bytes))) = (self.parts.len(), self.parts.front()) {
            return stream.poll_write(cx, &self.buffer[self.written..self.written + bytes]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut at) = (0, self.written);
        for part in self.parts.iter().take(SLICES_MAX) {
            slices[count] = IoSlice::new(match part {
                BufferPart::Buffered(bytes) => {
                    at += bytes;
                    &self.buffer[at - bytes..at]
                }
                BufferPart::Long(piece) => piece,
            });
            count += 1;
        }
        stream.poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(part) = self.parts.front_mut() {
            let (length, is_buffered) = match part {
                BufferPart::Buffered(bytes) => (*bytes, true),
                BufferPart::Long(piece) => (piece.len(), false),
            };
            let taken = length.min(written);
            written -= taken;
            self.written += if is_buffered { taken } else { 0 };
            if taken == length {
                self.parts.pop_front();
                continue;
            }
            match part {
                BufferPart::Buffered(bytes) => *bytes -= taken,
                BufferPart::Long(piece) => piece.advance(taken),
            }
            break;
        }
        if self.parts.is_empty() {
            self.buffer.clear();
            self.written = 0;
        } else if self.written > COMPACT_BYTES {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
#[path = "write_buffer_tests.rs"]
mod tests;
