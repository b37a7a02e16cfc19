//! Minimal parser for heads of HTTP/1.1 messages.
//!
//! It reads only what determines status, body length and reuse. It has no header maps, no paths and no HEAD requests: scenarios choose an
//! upstream by bucket, and the gateway's own tests check headers.

use std::str;

use thiserror::Error;

use crate::framing::{BodyFraming, ChunkState};

/// A head with more headers counts as malformed.
const HEADERS_MAX: usize = 96;

/// The bytes are not a supported head.
#[derive(Debug, Error)]
#[error("malformed message head")]
pub(crate) struct BadHead;

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) body: BodyFraming,
    pub(crate) keep_alive: bool,
    /// The reason of a refusal, if it has one.
    pub(crate) refusal: Option<RefusalHead>,
    /// Length of the head.
    pub(crate) length_bytes: usize,
}

/// The headers of a refusal that explain it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusalHead {
    /// `x-tidegate-reason`
    pub(crate) reason: Box<str>,
    /// `x-request-id`
    pub(crate) request_id: Box<str>,
}

/// The head of a request.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) is_get: bool,
    pub(crate) body: BodyFraming,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    /// Length of the head.
    pub(crate) length_bytes: usize,
}

#[derive(Default)]
struct HeadFields<'a> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    expects_continue: bool,
    reason: &'a str,
    request_id: &'a str,
}

impl<'a> HeadFields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, BadHead> {
        let mut fields = Self::default();
        for header in headers {
            let value = str::from_utf8(header.value).unwrap_or_default().trim();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                fields.length = Some(value.parse().map_err(|_| BadHead)?);
            } else if is("transfer-encoding") {
                fields.chunked = value.eq_ignore_ascii_case("chunked");
            } else if is("connection") {
                fields.close = value.eq_ignore_ascii_case("close");
            } else if is("expect") {
                fields.expects_continue = true;
            } else if is("x-tidegate-reason") {
                fields.reason = value;
            } else if is("x-request-id") {
                fields.request_id = value;
            }
        }
        Ok(fields)
    }
}

/// The response head at the front of `bytes`; none if it is not complete yet.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<ResponseHead>, BadHead> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length_bytes) = parsed.parse(bytes).map_err(|_| BadHead)? else {
        return Ok(None);
    };
    let status = parsed.code.ok_or(BadHead)?;
    let fields = HeadFields::read(parsed.headers)?;
    let body = match (fields.chunked, fields.length) {
        _ if status < 200 || status == 204 || status == 304 => BodyFraming::EMPTY,
        (true, _) => BodyFraming::Chunked(ChunkState::START),
        (false, Some(length)) => BodyFraming::Length(length),
        (false, None) => BodyFraming::UntilClose,
    };
    let keep_alive = parsed.version == Some(1) && !fields.close && body != BodyFraming::UntilClose;
    let HeadFields { reason, request_id, .. } = fields;
    let refusal = || RefusalHead { reason: reason.into(), request_id: request_id.into() };
    let refusal = (!reason.is_empty()).then(refusal);
    Ok(Some(ResponseHead { status, body, keep_alive, refusal, length_bytes }))
}

/// The value of a header of the message head at the front of `bytes`; empty if it is absent.
pub(crate) fn value(bytes: &[u8], name: &str) -> Box<str> {
    let lines = bytes.split(|byte| *byte == b'\n').skip(1).take_while(|line| line.len() > 1);
    let value = lines
        .filter_map(|line| str::from_utf8(line).ok()?.split_once(':'))
        .find_map(|(of, value)| of.eq_ignore_ascii_case(name).then(|| value.trim()));
    value.unwrap_or_default().into()
}

/// The path of the request head at the front of `bytes`.
pub(crate) fn path(bytes: &[u8]) -> &str {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    str::from_utf8(line).ok().and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
}

/// The request head at the front of `bytes`; none if it is not complete yet.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<RequestHead>, BadHead> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length_bytes) = parsed.parse(bytes).map_err(|_| BadHead)? else {
        return Ok(None);
    };
    let fields = HeadFields::read(parsed.headers)?;
    let body = match (fields.chunked, fields.length) {
        (true, _) => BodyFraming::Chunked(ChunkState::START),
        (false, length) => BodyFraming::Length(length.unwrap_or(0)),
    };
    Ok(Some(RequestHead {
        is_get: parsed.method == Some("GET"),
        body,
        keep_alive: parsed.version == Some(1) && !fields.close,
        expects_continue: fields.expects_continue,
        length_bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_determines_the_framing_of_the_body() {
        let cases: [(&str, BodyFraming, bool); 4] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", BodyFraming::Length(7), true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                BodyFraming::Chunked(ChunkState::START),
                true,
            ),
            ("HTTP/1.1 503 No\r\n\r\n", BodyFraming::UntilClose, false),
            ("HTTP/1.1 204 No\r\nConnection: close\r\n\r\n", BodyFraming::EMPTY, false),
        ];
        for (text, body, keep_alive) in cases {
            let head = response(text.as_bytes()).unwrap().unwrap();
            assert_eq!(
                (head.body, head.keep_alive, head.length_bytes),
                (body, keep_alive, text.len()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_reason_of_a_refusal_is_detected() {
        let refusal = |text: &str| response(text.as_bytes()).unwrap().unwrap().refusal;
        let refused = refusal("HTTP/1.1 503 No\r\nX-Tidegate-Reason: exhausted\r\nx-request-id: 7\r\n\r\n");
        let expected = RefusalHead { reason: "exhausted".into(), request_id: "7".into() };
        assert_eq!(refused, Some(expected));
        assert_eq!(refusal("HTTP/1.1 503 No\r\nx-tidegate-reason:\r\n\r\n"), None);
    }

    #[test]
    fn a_path_and_a_header_are_found_in_the_head() {
        let text = b"GET /s-7/b/k HTTP/1.1\r\nHost: x\r\nX-A:  1 \r\n\r\nx-b: 2\r\n";
        assert_eq!(path(text), "/s-7/b/k");
        assert_eq!((&*value(text, "x-a"), &*value(text, "x-b")), ("1", ""));
    }

    #[test]
    fn an_incomplete_head_waits_and_a_bad_one_fails() {
        assert!(response(b"HTTP/1.1 200 OK\r\nContent-").unwrap().is_none());
        assert!(response(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").is_err());
        assert!(request(b"\x00\x01\r\n\r\n").is_err());
    }

    #[test]
    fn the_method_and_expect_of_a_request_are_parsed() {
        let text = b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        let head = request(text).unwrap().unwrap();
        assert_eq!(head.body, BodyFraming::Length(9));
        assert!(head.expects_continue && head.keep_alive && !head.is_get);
    }
}
