//! State that the socket, the loop and the stream tasks of one HTTP/2 connection share, on one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tidegate_actors::clock;
use tokio::sync::Notify;

use super::frame_budget::FrameBudget;
use super::frames::FrameKind;
use super::response_queue::ResponseQueue;

/// The most malformed streams that are stored. A stream's request or body removes its mark; only a stream that ended
/// before either keeps it. So the oldest marks belong to ended streams: a connection has at most 128 at a time.
const MALFORMED_MAX: usize = 256;

/// The state of one connection.
#[derive(Default)]
pub(super) struct ConnectionState {
    budget: RefCell<FrameBudget>,
    is_flooded: Cell<bool>,
    /// Notified once, when the connection must end with ENHANCE_YOUR_CALM.
    pub(super) flooded: Notify,
    /// Streams with malformed header blocks that `h2` accepts.
    malformed: RefCell<Vec<u32>>,
    /// Responses with bytes that the socket has not accepted yet.
    responses: RefCell<Vec<(u32, Rc<ResponseQueue>)>>,
    /// Whether the last write to the socket was pending.
    is_blocked: Cell<bool>,
}

impl ConnectionState {
    /// Charges a received frame.
    pub(super) fn charge(&self, kind: FrameKind, length: u32) {
        if !self.budget.borrow_mut().charge(kind, length, clock::now) {
            self.mark_flooded();
        }
    }

    /// Credits the payload of a received DATA frame, in bytes without padding.
    pub(super) fn credit_data(&self, bytes: u32) {
        self.budget.borrow_mut().credit_data(bytes);
    }

    /// Credits an answered request.
    pub(super) fn credit_response(&self) {
        self.budget.borrow_mut().credit_response();
    }

    /// Whether the client sent too many frames without progress.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }

    fn mark_flooded(&self) {
        if !self.is_flooded.replace(true) {
            self.flooded.notify_one();
        }
    }

    /// Marks a stream as malformed.
    pub(super) fn mark_malformed(&self, stream: u32) {
        let mut malformed = self.malformed.borrow_mut();
        if malformed.len() == MALFORMED_MAX {
            malformed.remove(0);
        }
        malformed.push(stream);
    }

    /// Whether this stream is marked as malformed; removes the mark.
    pub(super) fn take_malformed(&self, stream: u32) -> bool {
        let mut malformed = self.malformed.borrow_mut();
        let before = malformed.len();
        malformed.retain(|other| *other != stream);
        malformed.len() < before
    }

    /// Registers the response of this stream for `record_written`.
    pub(super) fn begin_sending(&self, stream: u32, responses: &Rc<ResponseQueue>) {
        self.responses.borrow_mut().push((stream, Rc::clone(responses)));
    }

    /// Removes the response of this stream.
    pub(super) fn end_sending(&self, stream: u32) {
        let mut responses = self.responses.borrow_mut();
        if let Some(at) = responses.iter().position(|(other, _)| *other == stream) {
            responses.swap_remove(at);
        }
    }

    /// Records bytes of a DATA frame of this stream that the socket accepted.
    pub(super) fn record_written(&self, stream: u32, bytes: usize) {
        let responses = self.responses.borrow();
        if let Some((_, responses)) = responses.iter().find(|(other, _)| *other == stream) {
            responses.record_written(bytes);
        }
    }

    /// Credits a DATA frame of this length that the socket accepted completely.
    pub(super) fn credit_sent(&self, bytes: u32) {
        self.budget.borrow_mut().credit_sent(bytes);
    }

    /// Whether the last write to the socket was pending.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Records whether the last write to the socket was pending.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        if self.is_blocked.replace(is_blocked) != is_blocked && is_blocked {
            self.responses.borrow().iter().for_each(|(_, responses)| responses.report_blocked());
        }
    }
}
