//! The socket of an HTTP/2 connection, with a scanner on each direction, and a buffer that joins small writes.
//!
//! Received bytes are not copied or changed. Received frames are charged to the connection's budget, and their header
//! blocks are searched. When the budget is exhausted, no more is read, and the loop ends the connection.
//!
//! `h2` writes and flushes each DATA frame by itself. So [`Joined`] keeps small writes until a record is full, or until
//! the loop has polled `h2` and sends them ([`ScannedSocket::poll_send`]): the responses of one turn share a TLS record
//! and a system call. Sent DATA frames are reported to their streams when the socket has accepted the bytes, not the
//! buffer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_state::ConnectionState;
use super::frames::{
    END_HEADERS, Frame, FrameKind, FrameScanner, FrameSink, HAS_PRIORITY, PADDED, PREFACE_BYTES,
};
use super::header_block::BlockScanner;

/// Bytes of the pad length and of the priority fields, before a HEADERS frame's block.
const PAD_LENGTH_BYTES: u32 = 1;
const PRIORITY_BYTES: u32 = 5;

/// The most bytes that wait for each other: those of a TLS record (RFC 8446, 5.1).
const JOINED_BYTES_MAX: usize = 16 << 10;
/// Larger writes are not copied.
const SMALL_BYTES_MAX: usize = 4 << 10;

/// A handle to the socket: `h2` has one, the loop another. It stays on one thread.
pub(super) struct ScannedSocket<S>(Rc<RefCell<SocketState<S>>>);

/// A socket with scanners.
struct SocketState<S> {
    socket: S,
    connection: Rc<ConnectionState>,
    received: FrameScanner,
    receiving: ReceiveState,
    sent: FrameScanner,
    joined: Joined,
}

/// Bytes that the socket has not accepted.
#[derive(Default)]
struct Joined {
    /// Whether the loop sends the bytes. Before, each flush does.
    is_deferred: bool,
    bytes: Vec<u8>,
    /// How many of the bytes are written.
    written: usize,
}

impl Joined {
    /// Adds a write if it is small and leaves no more than a record.
    fn try_add(&mut self, slices: &[IoSlice<'_>], total: usize) -> bool {
        let fits = total <= SMALL_BYTES_MAX && self.bytes.len() + total <= JOINED_BYTES_MAX;
        let is_added = self.is_deferred && fits;
        if is_added {
            slices.iter().for_each(|slice| self.bytes.extend_from_slice(slice));
        }
        is_added
    }

    fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written >= self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }
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
        Self(Rc::new(RefCell::new(SocketState {
            socket,
            connection,
            received: FrameScanner::new(PREFACE_BYTES),
            receiving: ReceiveState::default(),
            sent: FrameScanner::new(0),
            joined: Joined::default(),
        })))
    }

    /// Another handle to the socket.
    pub(super) fn handle(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    /// Joins small writes from now on. The caller calls [`Self::poll_send`] whenever it has polled `h2`.
    pub(super) fn defer_writes(&self) {
        self.0.borrow_mut().joined.is_deferred = true;
    }

    /// Frees the memory of the buffer if it is empty.
    pub(super) fn shrink(&self) {
        let joined = &mut self.0.borrow_mut().joined;
        if joined.bytes.is_empty() {
            joined.bytes = Vec::new();
        }
    }
}

impl<S: AsyncWrite + Unpin> ScannedSocket<S> {
    /// Sends the joined writes.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.poll_write_joined(cx))?;
        Pin::new(&mut state.socket).poll_flush(cx)
    }
}

impl<S: AsyncWrite + Unpin> SocketState<S> {
    /// Writes all joined bytes.
    fn poll_write_joined(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.joined.unwritten().is_empty() {
            let bytes = self.joined.unwritten();
            let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
            record_written(&self.connection, &mut self.sent, &polled, &[IoSlice::new(bytes)]);
            match ready!(polled)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.joined.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        if self.joined.try_add(slices, total) {
            return Poll::Ready(Ok(total));
        }
        ready!(self.poll_write_joined(cx))?;
        if self.joined.try_add(slices, total) {
            return Poll::Ready(Ok(total));
        }
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        record_written(&self.connection, &mut self.sent, &polled, slices);
        polled
    }
}

/// Records the result of a write of these bytes to the socket.
fn record_written(
    connection: &ConnectionState,
    sent: &mut FrameScanner,
    polled: &Poll<io::Result<usize>>,
    slices: &[IoSlice<'_>],
) {
    connection.set_blocked(polled.is_pending());
    let Poll::Ready(Ok(mut left)) = *polled else { return };
    for slice in slices {
        let count = left.min(slice.len());
        sent.scan(&slice[..count], &mut SentFrames(connection));
        left -= count;
        if left == 0 {
            return;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ScannedSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0.borrow_mut();
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
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().socket.is_write_vectored()
    }

    /// Leaves joined writes to the loop.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.borrow().joined.is_deferred { Poll::Ready(Ok(())) } else { self.poll_send(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.poll_write_joined(cx))?;
        Pin::new(&mut state.socket).poll_shutdown(cx)
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
