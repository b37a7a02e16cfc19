//! The call that is being polled on this thread, for the connection that it uses.
//!
//! A connection sends the request body itself (`body_writer.rs`) and must handle a response that arrives before the
//! end of the body: for example 403 or 503, after which the upstream closes. For that it needs the call that it
//! serves, but awc is between the two. They share a thread-local with the current call. `attempt/timeouts.rs` sets it around
//! each poll. A connection with an early response is never reused.
//!
//! A call may have a hedge timer (`attempt/hedge.rs`). The timer of the call (`attempt/timeouts.rs`) fires it.
//!
//! Design: `docs/design/uploads.md`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use crate::buffers::SocketBuffers;
use crate::upstream::body::Upload;
use crate::upstream::body::upload_progress::UploadProgress;

thread_local! {
    static CURRENT_CALL: RefCell<Option<Rc<CallContext>>> = const { RefCell::new(None) };
}

/// One call to an upstream.
pub(crate) struct CallContext {
    pub(crate) upload_progress: Rc<UploadProgress>,
    /// A streamed body, until a connection takes it.
    upload: RefCell<Option<Box<Upload>>>,
    hedge_timer: Cell<HedgeTimer>,
    /// The socket of the connection that the request head was written to.
    socket: RefCell<Option<Rc<SocketBuffers>>>,
}

/// When to start the hedge of a call that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HedgeTimer {
    Unset,
    Armed(Instant),
    Fired,
}

impl CallContext {
    pub(crate) fn new(upload_progress: Rc<UploadProgress>, upload: Option<Box<Upload>>) -> Rc<Self> {
        Rc::new(Self {
            upload_progress,
            upload: RefCell::new(upload),
            hedge_timer: Cell::new(HedgeTimer::Unset),
            socket: RefCell::default(),
        })
    }

    /// The socket of the connection that the call uses. None before it has one.
    pub(crate) fn socket(&self) -> Option<Rc<SocketBuffers>> {
        self.socket.borrow().clone()
    }

    /// Sets the time at which the hedge timer fires if the call has not ended.
    pub(crate) fn arm_hedge_timer(&self, at: Instant) {
        self.hedge_timer.set(HedgeTimer::Armed(at));
    }

    /// Ready once the hedge timer has fired. It registers no waker: poll it together with the call.
    pub(crate) fn hedge_due(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|_| if self.hedge_timer.get() == HedgeTimer::Fired { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Fires the hedge timer if it is due. Returns when the call's timer must be polled again, at the latest at
    /// `due`.
    pub(crate) fn check_hedge_timer(&self, due: Instant, now: Instant) -> Instant {
        match self.hedge_timer.get() {
            HedgeTimer::Armed(at) if at <= now => {
                self.hedge_timer.set(HedgeTimer::Fired);
                due
            }
            HedgeTimer::Armed(at) => due.min(at),
            HedgeTimer::Unset | HedgeTimer::Fired => due,
        }
    }

    /// Returns the body if no connection has taken it. Then no byte of it was read or sent.
    pub(crate) fn reclaim_upload(&self) -> Option<Box<Upload>> {
        self.upload.take()
    }
}

/// Sets the current call while it is polled, and restores the previous one on drop.
pub(crate) struct CurrentCall {
    previous: Option<Rc<CallContext>>,
}

impl CurrentCall {
    pub(crate) fn set(context: &Rc<CallContext>) -> Self {
        Self { previous: CURRENT_CALL.replace(Some(Rc::clone(context))) }
    }
}

impl Drop for CurrentCall {
    fn drop(&mut self) {
        CURRENT_CALL.set(self.previous.take());
    }
}

/// Records that the current call uses the connection with this socket. Returns the body of the call, once.
pub(crate) fn attach_connection(socket: &Rc<SocketBuffers>) -> Option<(Box<Upload>, Rc<UploadProgress>)> {
    CURRENT_CALL.with_borrow(|current| {
        let current = current.as_ref()?;
        *current.socket.borrow_mut() = Some(Rc::clone(socket));
        current.upload.take().map(|upload| (upload, Rc::clone(&current.upload_progress)))
    })
}

/// Whether another call is being polled. It must not use the connection of this one.
pub(crate) fn is_other_call(upload_progress: &Rc<UploadProgress>) -> bool {
    CURRENT_CALL.with_borrow(|current| {
        current.as_ref().is_some_and(|current| !Rc::ptr_eq(&current.upload_progress, upload_progress))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_nest_and_end() {
        let outer = CallContext::new(Rc::default(), None);
        assert!(!is_other_call(&outer.upload_progress), "no call is polled");
        {
            let _outer = CurrentCall::set(&outer);
            assert!(!is_other_call(&outer.upload_progress));
            let inner = CallContext::new(Rc::default(), None);
            let _inner = CurrentCall::set(&inner);
            assert!(is_other_call(&outer.upload_progress));
            assert!(!is_other_call(&inner.upload_progress));
        }
        assert!(!is_other_call(&outer.upload_progress));
    }
}
