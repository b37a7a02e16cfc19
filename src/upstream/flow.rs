//! How a request's body is getting on, shared between the body and the watch over the call.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;

use crate::upstream::UpstreamRejection;

/// Progress of one upload. Lives on one thread.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    bytes: Cell<u64>,
    moved: Cell<Option<Instant>>,
    ended: Cell<Option<Instant>>,
    began: Cell<Option<Instant>>,
    fault: RefCell<Option<UpstreamRejection>>,
    unread: Unread,
}

/// A body that nobody reads any more.
#[derive(Default)]
struct Unread(RefCell<Option<Payload>>);

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unread").field(&self.0.borrow().is_some()).finish()
    }
}

impl Flow {
    /// An upload begins: until it ends, idleness is what is timed.
    pub(crate) fn begin(&self, now: Instant) {
        self.began.set(Some(now));
        self.moved.set(Some(now));
    }

    /// Body bytes came from the client.
    pub(crate) fn moved(&self, bytes: usize, now: Instant) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.moved.set(Some(now));
    }

    /// The last body byte was handed to the upstream's connection.
    pub(crate) fn end(&self, now: Instant) {
        self.ended.set(Some(now));
    }

    /// The upload failed on the client's side, for this reason.
    pub(crate) fn fail(&self, fault: UpstreamRejection) {
        *self.fault.borrow_mut() = Some(fault);
    }

    pub(crate) fn take_fault(&self) -> Option<UpstreamRejection> {
        self.fault.borrow_mut().take()
    }

    /// Nobody reads the rest of the body. It is kept to the end of the answer: actix then lingers and closes the client's
    /// connection, where a dropped chunked body it would read for ever, or wait on without being woken.
    pub(crate) fn leave(&self, payload: Payload) {
        if !matches!(payload, Payload::None) {
            *self.unread.0.borrow_mut() = Some(payload);
        }
    }

    /// Body bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// When body bytes last moved, while the upload goes on.
    pub(crate) fn uploading_since(&self) -> Option<Instant> {
        if self.ended.get().is_some() {
            None
        } else {
            self.moved.get().filter(|_| self.began.get().is_some())
        }
    }

    /// When the upload ended, and how long it took.
    pub(crate) fn uploaded(&self) -> Option<(Instant, Duration)> {
        let (began, ended) = (self.began.get()?, self.ended.get()?);
        Some((ended, ended.saturating_duration_since(began)))
    }
}
