//! The head of a request to an upstream, and how it is written (RFC 9112, 3 and 5).
//!
//! Only this module writes the headers of the connection and of the framing; those in the table are dropped.

use actix_web::http::Method;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use actix_web::http::uri::PathAndQuery;

use crate::upstream::exchange::memory;

/// A request head that can still be changed.
pub(crate) struct OutboundHead {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
}

/// The framing of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestFraming {
    /// No body and no length.
    NoBody,
    Length(u64),
    Chunked,
}

impl OutboundHead {
    /// A head without headers.
    pub(crate) fn new(method: Method, target: PathAndQuery) -> Self {
        Self { method, target, headers: memory::take_headers() }
    }

    /// Writes the head. `closes`: the connection serves this request only.
    pub(super) fn write(&self, into: &mut Vec<u8>, framing: RequestFraming, closes: bool) {
        into.extend_from_slice(self.method.as_str().as_bytes());
        into.push(b' ');
        into.extend_from_slice(self.target.as_str().as_bytes());
        into.extend_from_slice(b" HTTP/1.1\r\n");
        // First, as RFC 9110, 7.2 recommends.
        for value in self.headers.get_all(HOST) {
            write_header(into, "host", value.as_bytes());
        }
        match framing {
            RequestFraming::NoBody => {}
            RequestFraming::Length(bytes) => {
                write_header(into, "content-length", itoa::Buffer::new().format(bytes).as_bytes());
            }
            RequestFraming::Chunked => into.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if closes {
            into.extend_from_slice(b"connection: close\r\n");
        }
        for (name, value) in &self.headers {
            if *name != HOST && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != CONNECTION {
                write_header(into, name.as_str(), value.as_bytes());
            }
        }
        into.extend_from_slice(b"\r\n");
    }
}

pub(super) fn write_header(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}

impl Drop for OutboundHead {
    fn drop(&mut self) {
        memory::keep_headers(std::mem::take(&mut self.headers));
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn head() -> OutboundHead {
        OutboundHead::new(Method::PUT, PathAndQuery::from_static("/b/k?x=1"))
    }

    /// V5: one `Host`, first, and the framing of the body and nothing else
    #[test]
    fn a_head_is_written_with_its_framing() {
        let mut head = head();
        for (name, value) in [
            ("x-a", "1"),
            ("content-length", "9"),
            ("connection", "x"),
            ("host", "h"),
            ("transfer-encoding", "y"),
        ] {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let written = |framing, closes| {
            let mut bytes = Vec::new();
            head.write(&mut bytes, framing, closes);
            String::from_utf8(bytes).unwrap()
        };
        let line = "PUT /b/k?x=1 HTTP/1.1\r\nhost: h\r\n";
        assert_eq!(written(RequestFraming::NoBody, false), format!("{line}x-a: 1\r\n\r\n"));
        let sized = written(RequestFraming::Length(70_000), true);
        assert_eq!(sized, format!("{line}content-length: 70000\r\nconnection: close\r\nx-a: 1\r\n\r\n"));
        let chunked = written(RequestFraming::Chunked, false);
        assert_eq!(chunked, format!("{line}transfer-encoding: chunked\r\nx-a: 1\r\n\r\n"));
    }
}
