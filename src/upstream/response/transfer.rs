//! The socket buffers of one response: of the upstream connection, and of the transfer if the body is large.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tidegate_actors::clock;

use crate::buffers::cut::TransferCut;
use crate::buffers::revocation::{RevocableStream, StreamOwner};
use crate::buffers::send_progress::SendProgress;
use crate::buffers::{LARGE_BODY_BYTES, SMALL_BODY_BYTES, SocketBuffers, Transfer, TransferGate};
use crate::upstream::RequestHost;

/// Holds only the socket while the body is small.
pub(crate) struct ResponseTransfer {
    transfer: Option<Rc<Transfer>>,
    /// The socket of the upstream connection.
    socket: Option<Rc<SocketBuffers>>,
    /// The key of the client, if it has one.
    owner: Option<StreamOwner>,
    /// Set while the key can be withdrawn from a body that lasts.
    revocable: Option<Rc<RevocableStream>>,
}

/// A received piece of the body.
pub(crate) struct ReceivedPiece {
    pub(crate) bytes: usize,
    /// Bytes of the body so far.
    pub(crate) received: u64,
    /// Remaining bytes, if known.
    pub(crate) left: Option<u64>,
    pub(crate) now: Instant,
}

impl ResponseTransfer {
    pub(crate) fn new(socket: Option<Rc<SocketBuffers>>, owner: Option<StreamOwner>) -> Self {
        Self { transfer: None, socket, owner, revocable: None }
    }

    /// Registers the body for the case that its client's key is withdrawn: it is large, or its length is unknown.
    pub(crate) fn begin_revocable(&mut self, host: &dyn RequestHost, progress: Option<&Rc<SendProgress>>) {
        if let Some(owner) = self.owner.take() {
            self.revocable = Some(host.transfers().revocable.begin(owner, progress.cloned()));
        }
    }

    /// Begins a transfer because the body is large. `progress` is that of sending to the client.
    pub(crate) fn begin(
        &mut self,
        host: &dyn RequestHost,
        progress: Option<&Rc<SendProgress>>,
        now: Instant,
    ) {
        self.begin_revocable(host, progress);
        let client = progress.and_then(|progress| progress.socket().cloned());
        let sockets = (self.socket.take(), client);
        self.transfer = Some(Transfer::begin(host.transfers(), sockets, progress.cloned(), now));
    }

    /// Records a received piece of the body.
    pub(crate) fn record_bytes(
        &mut self,
        host: &dyn RequestHost,
        progress: Option<&Rc<SendProgress>>,
        piece: &ReceivedPiece,
    ) {
        let ReceivedPiece { bytes, received, left, now } = *piece;
        if received <= SMALL_BODY_BYTES {
            return;
        }
        if self.transfer.is_none() && received > LARGE_BODY_BYTES {
            self.begin(host, progress, now);
        }
        if let Some(transfer) = &self.transfer {
            transfer.record_moved(bytes, left, now);
        } else if let Some(socket) = &self.socket {
            socket.record_small_body(bytes, host.buffer_budget(), now);
        }
    }

    /// The most bytes that pass through the pipe of the thread at once. None if the body is small, or must be copied.
    pub(crate) fn splice_max(&self) -> Option<u64> {
        self.transfer.as_ref().and_then(|transfer| transfer.splice_max())
    }

    /// Counts bytes that were moved through the pipe of the thread.
    pub(crate) fn count_spliced(&self, bytes: usize) {
        if let Some(transfer) = &self.transfer {
            transfer.count_spliced(bytes);
        }
    }

    /// Ready while bytes may flow, or once the transfer is cut.
    pub(crate) fn poll_gate(&self, cx: &Context<'_>) -> Poll<TransferGate> {
        if let Some(revocable) = &self.revocable
            && let Poll::Ready(cut) = revocable.poll_cut(cx)
        {
            return Poll::Ready(TransferGate::Cut(TransferCut::Withdrawn(cut)));
        }
        self.transfer.as_ref().map_or(Poll::Ready(TransferGate::Flowing), |transfer| transfer.poll_gate(cx))
    }

    /// The start of a timer that began at `since`, without the time of pauses.
    pub(crate) fn after_pause(&self, since: Instant) -> Instant {
        self.transfer.as_ref().map_or(since, |transfer| transfer.after_pause(since, clock::now()))
    }

    /// Whether the gateway has paused reading from the upstream.
    pub(crate) fn has_paused(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.has_paused())
    }
}
