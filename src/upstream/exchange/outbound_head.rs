//! The head of a request to an upstream, in memory that is used again.
//!
//! The table of its headers has 7 KiB, which is far above the sizes that the allocator serves quickly. So each thread keeps the heads of
//! past requests. awc gets a reference: it copies a head that it owns several times.

use std::cell::RefCell;
use std::rc::Rc;

use actix_http::{ConnectionType, RequestHead, RequestHeadType};
use actix_web::http::Uri;

/// Heads that a thread keeps at most, for as many concurrent calls.
const KEPT_MAX: usize = 32;
/// A head with space for more headers is not kept. A new one has space for 28.
const HEADERS_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Rc<RequestHead>>> = const { RefCell::new(Vec::new()) };
}

/// A request head that can still be changed.
pub(crate) struct OutboundHead(Rc<RequestHead>);

/// The same head for awc.
pub(super) struct SharedHead(Rc<RequestHead>);

impl OutboundHead {
    /// A head without headers.
    pub(crate) fn new() -> Self {
        Self(KEPT.with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    pub(crate) fn get_mut(&mut self) -> &mut RequestHead {
        // Nothing else has it before it is sent, so nothing is copied.
        Rc::make_mut(&mut self.0)
    }

    pub(super) fn share(&self) -> SharedHead {
        SharedHead(Rc::clone(&self.0))
    }
}

impl From<SharedHead> for RequestHeadType {
    fn from(head: SharedHead) -> Self {
        Self::Rc(head.0, None)
    }
}

impl Drop for OutboundHead {
    fn drop(&mut self) {
        // awc has dropped its reference once the head is written.
        let Some(head) = Rc::get_mut(&mut self.0) else { return };
        let is_plain = head.connection_type() == ConnectionType::KeepAlive;
        if !is_plain || head.headers.capacity() > HEADERS_MAX {
            return;
        }
        // Neither targets nor credentials stay in memory.
        head.headers.clear();
        head.uri = Uri::default();
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(Rc::clone(&self.0));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;
    use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};

    use super::*;

    fn kept() -> usize {
        KEPT.with_borrow(Vec::len)
    }

    /// A kept head has nothing of the request before it
    #[test]
    fn a_kept_head_is_empty() {
        let mut head = OutboundHead::new();
        let parts = head.get_mut();
        (parts.method, parts.uri) = (Method::PUT, Uri::from_static("/b/k?x=1"));
        parts.headers.insert(AUTHORIZATION, HeaderValue::from_static("secret"));
        drop(head);
        assert_eq!(kept(), 1);
        let mut again = OutboundHead::new();
        let parts = again.get_mut();
        assert!(parts.headers.is_empty() && parts.uri == Uri::default());
        assert_eq!(kept(), 0);
    }

    /// Heads of single-use connections, large heads, heads that awc still has, and too many heads are not kept
    #[test]
    fn few_heads_are_kept() {
        let mut single_use = OutboundHead::new();
        single_use.get_mut().set_connection_type(ConnectionType::Close);
        drop(single_use);
        let mut large = OutboundHead::new();
        for number in 0..100 {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            large.get_mut().headers.insert(name, HeaderValue::from_static("1"));
        }
        drop(large);
        let in_use = OutboundHead::new();
        let shared = in_use.share();
        drop(in_use);
        assert_eq!(kept(), 0);
        drop(shared);
        let many: Vec<_> = (0..KEPT_MAX + 5).map(|_| OutboundHead::new()).collect();
        drop(many);
        assert_eq!(kept(), KEPT_MAX);
    }
}
