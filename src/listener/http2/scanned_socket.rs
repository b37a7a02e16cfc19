//! The socket of an HTTP/2 connection, with a scanner on each direction.
//!
//! Bytes are not copied or changed. Received frames are charged to the connection's budget, and their header blocks
//! are searched. Sent DATA frames are reported to their streams when the socket has accepted the bytes. When the
//! budget is exhausted, no more is read, and the loop ends the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_state::ConnectionState;
use super::frames::{
    END_HEADERS, Frame, FrameKind, FrameScanner, FrameSink, HAS_PRIORITY, PADDED, PREFACE_BYTES,
};
use super::header_block::BlockScanner;

/// Bytes of the pad length and of the priority fields, before a HEADERS frame's block.
const PAD_LENGTH_BYTES: u32 = 1;
const PRIORITY_BYTES: u32 = 5;

/// A socket with scanners.
pub(super) struct ScannedSocket<S> {
    socket: S,
    connection: Rc<ConnectionState>,
    received: FrameScanner,
    receiving: ReceiveState,
    sent: FrameScanner,
}

/// State of the received frames.
#[derive(Default)]
struct ReceiveState {
    blocks: BlockScanner,
    /// The highest stream that was opened.
    last_stream: u32,
    /// Whether the current block is the second one of its stream.
    are_trailers: bool,
    /// Bytes of padding in this frame.
    padding: u32,
}

impl<S> ScannedSocket<S> {
    pub(super) fn new(socket: S, connection: Rc<ConnectionState>) -> Self {
        Self {
            socket,
            connection,
            received: FrameScanner::new(PREFACE_BYTES),
            receiving: ReceiveState::default(),
            sent: FrameScanner::new(0),
        }
    }

    /// Records the result of a write of these bytes.
    fn written(&mut self, polled: &Poll<io::Result<usize>>, slices: &[IoSlice<'_>]) {
        self.connection.set_blocked(polled.is_pending());
        let Poll::Ready(Ok(mut left)) = *polled else { return };
        for slice in slices {
            let count = left.min(slice.len());
            self.sent.scan(&slice[..count], &mut SentFrames(&self.connection));
            left -= count;
            if left == 0 {
                return;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ScannedSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.is_flooded() {
            // The loop was notified and polls the connection until it has ended.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buf);
        if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            let mut sink = ReceivedFrames { connection: &this.connection, state: &mut this.receiving };
            this.received.scan(bytes, &mut sink);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ScannedSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.written(&polled, &[IoSlice::new(bytes)]);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write_vectored(cx, slices);
        this.written(&polled, slices);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// Receives the client's frames.
struct ReceivedFrames<'a> {
    connection: &'a ConnectionState,
    state: &'a mut ReceiveState,
}

impl ReceivedFrames<'_> {
    /// The part of a HEADERS or CONTINUATION frame that belongs to the block.
    fn block<'b>(&self, frame: &Frame, at: u32, bytes: &'b [u8]) -> &'b [u8] {
        let mut start = 0;
        if frame.kind == FrameKind::Headers {
            start += if frame.has(PADDED) { PAD_LENGTH_BYTES } else { 0 };
            start += if frame.has(HAS_PRIORITY) { PRIORITY_BYTES } else { 0 };
        }
        let end = frame.length.saturating_sub(self.state.padding);
        let from = (start.saturating_sub(at) as usize).min(bytes.len());
        let to = (end.saturating_sub(at) as usize).min(bytes.len());
        bytes.get(from..to).unwrap_or_default()
    }
}

impl FrameSink for ReceivedFrames<'_> {
    fn begin(&mut self, frame: &Frame) {
        self.connection.charge(frame.kind, frame.length);
        self.state.padding = 0;
        if frame.kind == FrameKind::Headers {
            self.state.are_trailers = frame.stream <= self.state.last_stream;
            self.state.last_stream = self.state.last_stream.max(frame.stream);
        }
    }

    fn payload(&mut self, frame: &Frame, at: u32, bytes: &[u8]) {
        let is_padded = matches!(frame.kind, FrameKind::Data | FrameKind::Headers) && frame.has(PADDED);
        if let (0, true, Some(padding)) = (at, is_padded, bytes.first()) {
            self.state.padding = u32::from(*padding);
        }
        if matches!(frame.kind, FrameKind::Headers | FrameKind::Continuation) {
            let block = self.block(frame, at, bytes);
            self.state.blocks.scan(block);
        }
    }

    fn end(&mut self, frame: &Frame) {
        match frame.kind {
            FrameKind::Data => {
                let overhead = if frame.has(PADDED) { PAD_LENGTH_BYTES + self.state.padding } else { 0 };
                self.connection.credit_data(frame.length.saturating_sub(overhead));
            }
            FrameKind::Headers | FrameKind::Continuation if frame.has(END_HEADERS) => {
                let seen = self.state.blocks.end();
                if seen.invalid || (seen.pseudo && self.state.are_trailers) {
                    self.connection.mark_malformed(frame.stream);
                }
            }
            _ => {}
        }
    }
}

/// Receives the gateway's frames.
struct SentFrames<'a>(&'a ConnectionState);

impl FrameSink for SentFrames<'_> {
    fn begin(&mut self, _: &Frame) {}

    fn payload(&mut self, frame: &Frame, _: u32, bytes: &[u8]) {
        if frame.kind == FrameKind::Data {
            self.0.record_written(frame.stream, bytes.len());
        }
    }

    fn end(&mut self, frame: &Frame) {
        if frame.kind == FrameKind::Data {
            self.0.credit_sent(frame.length);
        }
    }
}
