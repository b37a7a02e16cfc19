//! The call that is being polled on this thread, for the connection that it uses.
//!
//! A connection sends the request's body itself (`pump.rs`) and hears an answer that comes before the end of it: "403" or
//! "503", and then the upstream closes. For that it must know whose connection it is, but awc stands between the two. What
//! they share is the call that is being polled, set by the watch around it. A connection that has answered early is
//! never used again.

use std::cell::RefCell;
use std::rc::Rc;

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
}

impl Ongoing {
    pub(crate) fn new(flow: Rc<Flow>, upload: Option<Box<Upload>>) -> Rc<Self> {
        Rc::new(Self { flow, upload: RefCell::new(upload) })
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

/// The body of the current call, once, for the connection that its head is written to.
pub(crate) fn take_upload() -> Option<(Box<Upload>, Rc<Flow>)> {
    CURRENT.with_borrow(|current| {
        let current = current.as_ref()?;
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
