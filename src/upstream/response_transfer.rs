//! The buffers of one answer: of its upstream's connection, and of the large transfer that it may become.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tidegate_actors::clock;

use crate::buffers::{LARGE_BODY_BYTES, SMALL_BODY_BYTES, SocketBuffers, Transfer, TransferGate};
use crate::http::send_progress::SendProgress;
use crate::worker::Worker;

/// Nothing more than the socket while the body is small.
pub(super) struct ResponseTransfer {
    transfer: Option<Rc<Transfer>>,
    /// Of the upstream's connection.
    socket: Option<Rc<SocketBuffers>>,
}

/// A piece that came.
pub(super) struct ReceivedPiece {
    pub(super) bytes: usize,
    /// Of the body so far.
    pub(super) received: u64,
    /// Bytes to come, where that is known.
    pub(super) left: Option<u64>,
    pub(super) now: Instant,
}

impl ResponseTransfer {
    pub(super) fn new(socket: Option<Rc<SocketBuffers>>) -> Self {
        Self { transfer: None, socket }
    }

    /// The body is large. `progress` is how the client takes it.
    pub(super) fn begin(&mut self, worker: &Worker, progress: Option<&Rc<SendProgress>>, now: Instant) {
        let client = progress.and_then(|progress| progress.socket().cloned());
        let sockets = (self.socket.take(), client);
        self.transfer = Some(Transfer::begin(&worker.transfers, sockets, progress.cloned(), now));
    }

    /// A piece of a body came.
    pub(super) fn record_bytes(
        &mut self,
        worker: &Worker,
        progress: Option<&Rc<SendProgress>>,
        moved: &ReceivedPiece,
    ) {
        let ReceivedPiece { bytes, received, left, now } = *moved;
        if received <= SMALL_BODY_BYTES {
            return;
        }
        if self.transfer.is_none() && received > LARGE_BODY_BYTES {
            self.begin(worker, progress, now);
        }
        if let Some(transfer) = &self.transfer {
            transfer.record_moved(bytes, left, now);
        } else if let Some(socket) = &self.socket {
            socket.record_small_body(bytes, &worker.shared.buffer_budget, now);
        }
    }

    /// Ready while the bytes may flow, or once the transfer is cut.
    pub(super) fn poll_gate(&self, cx: &Context<'_>) -> Poll<TransferGate> {
        self.transfer.as_ref().map_or(Poll::Ready(TransferGate::Flowing), |transfer| transfer.poll_gate(cx))
    }

    /// The moment from which a timer counts that began at `since`.
    pub(super) fn after_pause(&self, since: Instant) -> Instant {
        self.transfer.as_ref().map_or(since, |transfer| transfer.after_pause(since, clock::now()))
    }

    /// Whether the gateway has stopped reading from the upstream for a while.
    pub(super) fn has_paused(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.has_paused())
    }

    /// Whether the upstream's connection must not be used again.
    pub(super) fn has_open_window(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.has_open_window())
    }
}
