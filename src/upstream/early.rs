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
use crate::upstream::flow::Flow;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Ongoing>>> = const { RefCell::new(None) };
}

/// One call to an upstream.
pub(crate) struct Ongoing {
    pub(crate) flow: Rc<Flow>,
    /// A streamed body, until a connection takes it over.
    upload: RefCell<Option<Box<Upload>>>,
    bell: Cell<Bell>,
    /// The socket of the connection that its head was written to.
    socket: RefCell<Option<Rc<SocketBuffers>>>,
}

/// When somebody wants to hear of a call that still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bell {
    Never,
    At(Instant),
    Rung,
}

impl Ongoing {
    pub(crate) fn new(flow: Rc<Flow>, upload: Option<Box<Upload>>) -> Rc<Self> {
        Rc::new(Self {
            flow,
            upload: RefCell::new(upload),
            bell: Cell::new(Bell::Never),
            socket: RefCell::default(),
        })
    }

    /// The socket of the connection that the call uses; none before that.
    pub(crate) fn socket(&self) -> Option<Rc<SocketBuffers>> {
        self.socket.borrow().clone()
    }

    /// Has the bell rung at this moment, if the call goes on then.
    pub(crate) fn ring_at(&self, moment: Instant) {
        self.bell.set(Bell::At(moment));
    }

    /// Ready once the bell has rung, for whoever polls it with the call: nobody is woken for it alone.
    pub(crate) fn rung(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|_| if self.bell.get() == Bell::Rung { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Rings if it is time, and says when the call's timer has to look again that is due then.
    pub(crate) fn look(&self, due: Instant, now: Instant) -> Instant {
        match self.bell.get() {
            Bell::At(moment) if moment <= now => {
                self.bell.set(Bell::Rung);
                due
            }
            Bell::At(moment) => due.min(moment),
            Bell::Never | Bell::Rung => due,
        }
    }

    /// The body back, if no connection has taken it: then not a byte of it was read, let alone sent.
    pub(crate) fn reclaim(&self) -> Option<Box<Upload>> {
        self.upload.take()
    }
}

/// Makes a call the current one for as long as it is polled.
pub(crate) struct Current {
    previous: Option<Rc<Ongoing>>,
}

impl Current {
    pub(crate) fn enter(ongoing: &Rc<Ongoing>) -> Self {
        Self { previous: CURRENT.replace(Some(Rc::clone(ongoing))) }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.previous.take());
    }
}

/// The current call uses the connection with this socket. Its body, once, for that connection.
pub(crate) fn take_upload(socket: &Rc<SocketBuffers>) -> Option<(Box<Upload>, Rc<Flow>)> {
    CURRENT.with_borrow(|current| {
        let current = current.as_ref()?;
        *current.socket.borrow_mut() = Some(Rc::clone(socket));
        current.upload.take().map(|upload| (upload, Rc::clone(&current.flow)))
    })
}

/// Whether a call other than this one is being polled: it must not use this one's connection.
pub(crate) fn is_another(flow: &Rc<Flow>) -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|current| !Rc::ptr_eq(&current.flow, flow)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_nest_and_end() {
        let outer = Ongoing::new(Rc::default(), None);
        assert!(!is_another(&outer.flow), "nobody is no other");
        {
            let _outer = Current::enter(&outer);
            assert!(!is_another(&outer.flow));
            let inner = Ongoing::new(Rc::default(), None);
            let _inner = Current::enter(&inner);
            assert!(is_another(&outer.flow));
            assert!(!is_another(&inner.flow));
        }
        assert!(!is_another(&outer.flow));
    }
}
