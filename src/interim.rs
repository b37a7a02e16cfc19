//! Interim responses (RFC 9110, 15.2) of an upstream that wait for the client's connection.
//!
//! The exchange with the upstream adds them, the connection of the client sends them before the final response. A client of HTTP/1.0 gets
//! none. An upstream may send any number, so one request has at most [`FORWARDED_MAX`].

use std::cell::{Cell, RefCell};

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;

/// The most interim responses that are forwarded for one request.
const FORWARDED_MAX: u8 = 8;

/// One interim response.
#[derive(Debug)]
pub(crate) struct InterimResponse {
    pub(crate) status: StatusCode,
    /// As the upstream sent them.
    pub(crate) headers: HeaderMap,
}

/// The interim responses of one request.
#[derive(Debug, Default)]
pub(crate) struct InterimResponses {
    /// Whether the client's protocol has them.
    is_accepted: Cell<bool>,
    forwarded: Cell<u8>,
    waiting: RefCell<Vec<InterimResponse>>,
}

impl InterimResponses {
    /// Accepts interim responses from now on.
    pub(crate) fn accept(&self) {
        self.is_accepted.set(true);
    }

    /// Adds one, if the client may get it.
    pub(crate) fn push(&self, status: StatusCode, headers: HeaderMap) {
        if self.is_accepted.get() && self.forwarded.get() < FORWARDED_MAX {
            self.forwarded.set(self.forwarded.get() + 1);
            self.waiting.borrow_mut().push(InterimResponse { status, headers });
        }
    }

    /// Removes those that wait.
    pub(crate) fn take(&self) -> Vec<InterimResponse> {
        self.waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_forwarded_and_none_to_http_1_0() {
        let interim = InterimResponses::default();
        interim.push(StatusCode::PROCESSING, HeaderMap::new());
        assert!(interim.take().is_empty(), "the client's protocol has none");
        interim.accept();
        for _ in 0..FORWARDED_MAX + 3 {
            interim.push(StatusCode::PROCESSING, HeaderMap::new());
        }
        assert_eq!(interim.take().len(), usize::from(FORWARDED_MAX));
        interim.push(StatusCode::PROCESSING, HeaderMap::new());
        assert!(interim.take().is_empty(), "the limit is that of the request");
    }
}
