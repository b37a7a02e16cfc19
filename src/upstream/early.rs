//! An upstream that answers before it has the whole body: "403" or "503", and then closes.
//!
//! awc writes the whole body before it reads, so such an answer would become a write error. The connection sees it
//! though: while a request is being written, bytes that come back are an answer. From then on it swallows what is
//! written, the body pretends to its end without asking the client for more, and awc goes on to read the answer. Such a
//! connection is never used again.
//!
//! The two ends, the connection and the body, belong to one call but know nothing of each other; what they share is the
//! call that is being polled on this thread, set by the watch around it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::upstream::flow::Flow;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Flow>>> = const { RefCell::new(None) };
}

/// Makes a call the current one for as long as it is polled.
pub(crate) struct Current {
    previous: Option<Rc<Flow>>,
}

impl Current {
    pub(crate) fn enter(flow: &Rc<Flow>) -> Self {
        Self { previous: CURRENT.replace(Some(Rc::clone(flow))) }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.previous.take());
    }
}

/// The flow of the call that is being polled, while it uploads.
pub(crate) fn uploading() -> Option<Rc<Flow>> {
    CURRENT.with_borrow(|current| current.clone().filter(|flow| flow.is_uploading()))
}

/// Whether a call other than this one is being polled: it must not use this one's connection.
pub(crate) fn is_another(flow: &Rc<Flow>) -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|current| !Rc::ptr_eq(current, flow)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_nest_and_end() {
        let outer = Rc::new(Flow::default());
        outer.begin(tidegate_actors::clock::now());
        assert!(uploading().is_none());
        {
            let _outer = Current::enter(&outer);
            assert!(uploading().is_some_and(|flow| Rc::ptr_eq(&flow, &outer)));
            let inner = Rc::new(Flow::default());
            let _inner = Current::enter(&inner);
            assert!(uploading().is_none(), "the inner call does not upload");
        }
        assert!(uploading().is_none());
    }
}
