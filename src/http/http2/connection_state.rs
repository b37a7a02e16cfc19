//! What the parts of one HTTP/2 connection share: its socket, its loop and the tasks of its streams. Lives on one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tidegate_actors::clock;
use tokio::sync::Notify;

use super::budget::Budget;
use super::frames::Kind;
use super::outgoing::Outgoing;

/// Malformed streams that are remembered; a connection with more of them is a flood.
const MALFORMED_MAX: usize = 128;

/// The state of one connection.
#[derive(Default)]
pub(super) struct ConnectionState {
    budget: RefCell<Budget>,
    is_flooded: Cell<bool>,
    /// Told once, when the connection must end with ENHANCE_YOUR_CALM.
    pub(super) flooded: Notify,
    /// Streams with header blocks that RFC 9113 forbids and `h2` takes.
    malformed: RefCell<Vec<u32>>,
    /// The answers that have bytes on their way to the socket.
    outgoing: RefCell<Vec<(u32, Rc<Outgoing>)>>,
    /// The socket takes no more bytes.
    is_blocked: Cell<bool>,
}

impl ConnectionState {
    /// A frame came.
    pub(super) fn charge(&self, kind: Kind, length: u32) {
        if !self.budget.borrow_mut().charge(kind, length, clock::now) {
            self.flood();
        }
    }

    /// A DATA frame came that carries so many bytes without its padding.
    pub(super) fn received(&self, bytes: u32) {
        self.budget.borrow_mut().data(bytes);
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        self.budget.borrow_mut().answered();
    }

    /// Whether the client sent too many frames that move nothing.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }

    fn flood(&self) {
        if !self.is_flooded.replace(true) {
            self.flooded.notify_one();
        }
    }

    /// A header block of this stream is malformed.
    pub(super) fn mark_malformed(&self, stream: u32) {
        let mut malformed = self.malformed.borrow_mut();
        if malformed.len() < MALFORMED_MAX {
            malformed.push(stream);
        } else {
            self.flood();
        }
    }

    /// Whether a header block of this stream is malformed; it is forgotten.
    pub(super) fn take_malformed(&self, stream: u32) -> bool {
        let mut malformed = self.malformed.borrow_mut();
        let before = malformed.len();
        malformed.retain(|other| *other != stream);
        malformed.len() < before
    }

    /// The answer of this stream is handed to `h2` from now on.
    pub(super) fn begin_sending(&self, stream: u32, outgoing: &Rc<Outgoing>) {
        self.outgoing.borrow_mut().push((stream, Rc::clone(outgoing)));
    }

    /// All of it is written, or the stream has ended.
    pub(super) fn end_sending(&self, stream: u32) {
        let mut outgoing = self.outgoing.borrow_mut();
        if let Some(at) = outgoing.iter().position(|(other, _)| *other == stream) {
            outgoing.swap_remove(at);
        }
    }

    /// The socket took so many bytes of a DATA frame of this stream.
    pub(super) fn written(&self, stream: u32, bytes: usize) {
        let outgoing = self.outgoing.borrow();
        if let Some((_, outgoing)) = outgoing.iter().find(|(other, _)| *other == stream) {
            outgoing.written(bytes);
        }
    }

    /// The socket took a whole DATA frame with so many bytes.
    pub(super) fn sent(&self, bytes: u32) {
        self.budget.borrow_mut().sent(bytes);
    }

    /// Whether the socket takes no more bytes.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// The socket took bytes, or took none.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        if self.is_blocked.replace(is_blocked) != is_blocked && is_blocked {
            self.outgoing.borrow().iter().for_each(|(_, outgoing)| outgoing.blocked());
        }
    }
}
