//! The socket buffers of one upload, and its cut when memory is short or the key of its client is withdrawn.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::buffers::cut::TransferCut;
use crate::buffers::revocation::{RevocableStream, StreamOwner};
use crate::buffers::{SocketBuffers, Transfer, TransferDecisions, TransferGate, Transfers};

/// The socket buffers of the upload.
#[derive(Default)]
pub(super) struct UploadBuffers {
    pub(super) client: RefCell<Option<Rc<SocketBuffers>>>,
    /// None before the body is streamed.
    pub(super) transfer: RefCell<Option<Rc<Transfer>>>,
    /// What the actions on transfers decided about it.
    pub(super) decisions: RefCell<Option<Rc<TransferDecisions>>>,
    /// The key of the client, if it has one.
    pub(super) owner: Cell<Option<StreamOwner>>,
    /// Set while the key can be withdrawn from a streamed body.
    revocable: RefCell<Option<Rc<RevocableStream>>>,
}

impl fmt::Debug for UploadBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadBuffers").finish_non_exhaustive()
    }
}

impl UploadBuffers {
    /// Begins the transfer of a streamed body.
    pub(super) fn begin(&self, transfers: &Rc<Transfers>, now: Instant) {
        let client = self.client.borrow().clone();
        let mut transfer = self.transfer.borrow_mut();
        if transfer.is_none() {
            let begun = Transfer::begin(transfers, (client, None), None, now);
            *self.decisions.borrow_mut() = Some(Rc::clone(begun.decisions()));
            *transfer = Some(begun);
            let owner = self.owner.get();
            *self.revocable.borrow_mut() = owner.map(|owner| transfers.revocable.begin(owner, None));
        }
    }

    /// Ends the transfer.
    pub(super) fn end(&self) {
        self.transfer.take();
        self.revocable.take();
    }

    /// Ready while the upload is not paused.
    pub(super) fn poll_gate(&self, cx: &Context<'_>) -> Poll<TransferGate> {
        if let Poll::Ready(cut) = self.poll_withdrawn(cx) {
            return Poll::Ready(TransferGate::Cut(cut));
        }
        match &*self.transfer.borrow() {
            Some(transfer) => transfer.poll_gate(cx),
            None => Poll::Ready(TransferGate::Flowing),
        }
    }

    /// Ready once the upload is cut.
    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<TransferCut> {
        let withdrawn = self.poll_withdrawn(cx);
        match &*self.transfer.borrow() {
            Some(transfer) if withdrawn.is_pending() => transfer.poll_cut(cx).map(TransferCut::Memory),
            _ => withdrawn,
        }
    }

    fn poll_withdrawn(&self, cx: &Context<'_>) -> Poll<TransferCut> {
        let revocable = self.revocable.borrow();
        revocable.as_ref().map_or(Poll::Pending, |stream| stream.poll_cut(cx)).map(TransferCut::Withdrawn)
    }
}
