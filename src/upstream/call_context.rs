//! The call that is being polled on this thread, for the connection that it uses.
//!
//! A connection sends the request's body itself (`pump.rs`) and hears an answer that comes before the end of it: "403" or
//! "503", and then the upstream closes. For that it must know whose connection it is, but awc stands between the two. What
//! they share is the call that is being polled, set by the watch around it. A connection that has answered early is
//! never used again.
//!
//! A call may have a bell, which its own timer rings (`watch.rs`) for whoever polls it: see `hedge.rs`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use crate::buffers::SocketBuffers;
use crate::upstream::body::Upload;
use crate::upstream::upload_progress::UploadProgress;

thread_local! {
    static CURRENT_CALL: RefCell<Option<Rc<CallContext>>> = const { RefCell::new(None) };
}

/// One call to an upstream.
pub(crate) struct CallContext {
    pub(crate) upload_progress: Rc<UploadProgress>,
    /// A streamed body, until a connection takes it over.
    upload: RefCell<Option<Box<Upload>>>,
    hedge_timer: Cell<HedgeTimer>,
    /// The socket of the connection that its head was written to.
    socket: RefCell<Option<Rc<SocketBuffers>>>,
}

/// When somebody wants to hear of a call that still goes on.
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

    /// The socket of the connection that the call uses; none before that.
    pub(crate) fn socket(&self) -> Option<Rc<SocketBuffers>> {
        self.socket.borrow().clone()
    }

    /// Has the bell rung at this moment, if the call goes on then.
    pub(crate) fn arm_hedge_timer(&self, moment: Instant) {
        self.hedge_timer.set(HedgeTimer::Armed(moment));
    }

    /// Ready once the bell has rung, for whoever polls it with the call: nobody is woken for it alone.
    pub(crate) fn hedge_due(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|_| if self.hedge_timer.get() == HedgeTimer::Fired { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Rings if it is time, and says when the call's timer has to look again that is due then.
    pub(crate) fn check_hedge_timer(&self, due: Instant, now: Instant) -> Instant {
        match self.hedge_timer.get() {
            HedgeTimer::Armed(moment) if moment <= now => {
                self.hedge_timer.set(HedgeTimer::Fired);
                due
            }
            HedgeTimer::Armed(moment) => due.min(moment),
            HedgeTimer::Unset | HedgeTimer::Fired => due,
        }
    }

    /// The body back, if no connection has taken it: then not a byte of it was read, let alone sent.
    pub(crate) fn reclaim_upload(&self) -> Option<Box<Upload>> {
        self.upload.take()
    }
}

/// Makes a call the current one for as long as it is polled.
pub(crate) struct CurrentCall {
    previous: Option<Rc<CallContext>>,
}

impl CurrentCall {
    pub(crate) fn set(ongoing: &Rc<CallContext>) -> Self {
        Self { previous: CURRENT_CALL.replace(Some(Rc::clone(ongoing))) }
    }
}

impl Drop for CurrentCall {
    fn drop(&mut self) {
        CURRENT_CALL.set(self.previous.take());
    }
}

/// The current call uses the connection with this socket. Its body, once, for that connection.
pub(crate) fn attach_connection(socket: &Rc<SocketBuffers>) -> Option<(Box<Upload>, Rc<UploadProgress>)> {
    CURRENT_CALL.with_borrow(|current| {
        let current = current.as_ref()?;
        *current.socket.borrow_mut() = Some(Rc::clone(socket));
        current.upload.take().map(|upload| (upload, Rc::clone(&current.upload_progress)))
    })
}

/// Whether a call other than this one is being polled: it must not use this one's connection.
pub(crate) fn is_other_call(flow: &Rc<UploadProgress>) -> bool {
    CURRENT_CALL.with_borrow(|current| {
        current.as_ref().is_some_and(|current| !Rc::ptr_eq(&current.upload_progress, flow))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_nest_and_end() {
        let outer = CallContext::new(Rc::default(), None);
        assert!(!is_other_call(&outer.upload_progress), "nobody is no other");
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
