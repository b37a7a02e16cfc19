//! The bytes of one response between its body and the socket.
//!
//! The body is read ahead of the client, up to [`READ_AHEAD_BYTES`]. So a small response ends at once and releases
//! its request's slot and permit. Each piece is reserved in the connection's buffer until the socket has accepted it.
//! Without a reservation the next piece is read when all earlier bytes are written. Unsent bytes are either queued
//! here, without window, or inside `h2`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;

use crate::buffers::send_progress::SendProgress;
use crate::listener::send_buffer::{ConnectionBuffer, Reservation};

/// Bytes of one response that are read ahead of its client.
pub(super) const READ_AHEAD_BYTES: usize = 64 << 10;

/// A piece of the body that is not completely written.
struct UnsentPiece {
    bytes: usize,
    reservation: Option<Reservation>,
}

/// One response's unsent bytes. It stays on one thread.
pub(super) struct ResponseQueue {
    progress: Option<Rc<SendProgress>>,
    buffer: Option<Rc<ConnectionBuffer>>,
    pieces: RefCell<VecDeque<UnsentPiece>>,
    /// Pieces without window.
    queue: RefCell<VecDeque<Bytes>>,
    queued_bytes: Cell<usize>,
    unsent_bytes: Cell<usize>,
    /// Whether the body was read to its end, so that the task waits until all bytes are written.
    is_read: Cell<bool>,
    /// The stream's task while it waits for the socket.
    task: RefCell<Option<Waker>>,
}

impl ResponseQueue {
    pub(super) fn new(progress: Option<Rc<SendProgress>>, buffer: Option<Rc<ConnectionBuffer>>) -> Rc<Self> {
        Rc::new(Self {
            progress,
            buffer,
            pieces: RefCell::default(),
            queue: RefCell::default(),
            queued_bytes: Cell::new(0),
            unsent_bytes: Cell::new(0),
            is_read: Cell::new(false),
            task: RefCell::default(),
        })
    }

    /// The response's send progress.
    pub(super) fn progress(&self) -> Option<&Rc<SendProgress>> {
        self.progress.as_ref()
    }

    /// Whether the next piece of the body may be read now.
    pub(super) fn may_read(&self) -> bool {
        let unsent = self.unsent_bytes.get();
        let is_reserved = || self.pieces.borrow().back().is_some_and(|last| last.reservation.is_some());
        unsent == 0 || (unsent < READ_AHEAD_BYTES && is_reserved())
    }

    /// Adds a piece of the body.
    pub(super) fn push(&self, piece: Bytes) {
        let bytes = piece.len();
        if bytes == 0 {
            return;
        }
        let reservation = self.buffer.as_ref().and_then(|buffer| buffer.try_reserve(bytes));
        self.pieces.borrow_mut().push_back(UnsentPiece { bytes, reservation });
        self.queue.borrow_mut().push_back(piece);
        self.queued_bytes.set(self.queued_bytes.get() + bytes);
        self.unsent_bytes.set(self.unsent_bytes.get() + bytes);
    }

    /// Removes at most this number of queued bytes, for `h2`.
    pub(super) fn pop(&self, bytes_max: usize) -> Option<Bytes> {
        let mut queue = self.queue.borrow_mut();
        let first = queue.front_mut()?;
        let part = if first.len() <= bytes_max { queue.pop_front()? } else { first.split_to(bytes_max) };
        self.queued_bytes.set(self.queued_bytes.get() - part.len());
        Some(part)
    }

    /// Bytes without window.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.get()
    }

    /// Whether all bytes are written.
    pub(super) fn is_written(&self) -> bool {
        self.unsent_bytes.get() == 0
    }

    /// Records bytes that the socket accepted.
    pub(super) fn record_written(&self, bytes: usize) {
        let unsent = self.unsent_bytes.get().saturating_sub(bytes);
        self.unsent_bytes.set(unsent);
        self.release_memory(bytes);
        if let Some(progress) = &self.progress {
            progress.record_sent(bytes);
            if unsent == 0 {
                progress.set_idle();
            }
        }
        let is_awaited = if self.is_read.get() { unsent == 0 } else { self.may_read() };
        if is_awaited && let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn release_memory(&self, mut bytes: usize) {
        let mut pieces = self.pieces.borrow_mut();
        while let Some(first) = pieces.front_mut() {
            let part = bytes.min(first.bytes);
            first.bytes -= part;
            bytes -= part;
            if first.bytes > 0 {
                if let Some(reservation) = &mut first.reservation {
                    reservation.release(part);
                }
                return;
            }
            pieces.pop_front();
        }
    }

    /// Reports a pending write to the socket.
    pub(super) fn report_blocked(&self) {
        if let Some(progress) = self.progress.as_ref().filter(|_| !self.is_written()) {
            progress.set_waiting();
        }
    }

    /// Registers the stream's task, which waits for the body (unless it `is_read`), for window, or for the socket (if
    /// it `is_blocked`).
    pub(super) fn park(&self, cx: &Context<'_>, is_read: bool, is_blocked: bool) {
        self.is_read.set(is_read);
        let waits_for_socket = is_read || !self.may_read();
        *self.task.borrow_mut() = waits_for_socket.then(|| cx.waker().clone());
        if self.queued_bytes.get() > 0 || is_blocked {
            self.report_blocked();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: usize) -> Bytes {
        Bytes::from(vec![7; bytes])
    }

    /// V10: without a reservation a body is read only as fast as the client accepts it
    #[test]
    fn without_a_reservation_the_next_piece_waits() {
        let queue = ResponseQueue::new(None, None);
        assert!(queue.may_read());
        queue.push(piece(10));
        assert!(!queue.may_read());
        assert_eq!(queue.pop(4).map(|part| part.len()), Some(4));
        assert_eq!((queue.queued_bytes(), queue.is_written()), (6, false));
        assert_eq!(queue.pop(100).map(|part| part.len()), Some(6));
        assert_eq!(queue.pop(100), None);
        queue.record_written(9);
        assert!(!queue.may_read());
        queue.record_written(1);
        assert!(queue.may_read() && queue.is_written());
    }

    /// A7: an empty piece does not count as unsent
    #[test]
    fn an_empty_piece_is_not_unsent() {
        let queue = ResponseQueue::new(None, None);
        queue.push(Bytes::new());
        assert!(queue.is_written() && queue.pop(1).is_none());
    }
}
