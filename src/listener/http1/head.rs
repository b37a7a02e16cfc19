//! Parses the head of an HTTP/1 request into actix's request head, or returns a typed error (RFC 9112, 2 to 5).
//!
//! Two steps. [`HeadScanner`] searches the end of the head as bytes arrive and requires CRLF on every line, so a bare
//! LF is refused as soon as it arrives. [`parse`] reads a complete head: `httparse` splits it, and this module
//! refuses what `httparse` accepts or does not check (white space, the form of the target, the version). Neither does
//! I/O.
//!
//! The limits here only bound memory. They are wider than those of `http/request_validation.rs`, so that a request gets
//! its 414 or 431 in the gateway's error format whenever it can be parsed. This module does not judge the meaning of
//! a valid head: `http/request_validation.rs` refuses ambiguous framing, hosts and targets.

use std::mem::MaybeUninit;

use actix_web::dev::RequestHead;
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use actix_web::http::{Method, Uri, Version};
use bytes::Bytes;
use tidegate_s3::request::BodyLength;

use crate::body_framing::is_token;
use crate::http::head_rejection::HeadError;
use crate::http::request_validation;
use crate::request_head::HeaderView;

/// The longest head in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 128 << 10;
/// The most headers of a head.
const HEADERS_MAX: usize = 96;
/// The longest target that `http::Uri` can hold, in bytes.
const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

/// The properties of a head that the loop needs: persistence, framing, expectation, version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadInfo {
    /// `None` if the length is ambiguous: `http/request_validation.rs` refuses the request, and no further byte of the
    /// connection is read as HTTP.
    pub(super) length: Option<BodyLength>,
    /// Whether the client requests a persistent connection (RFC 9112, 9.3).
    pub(super) keeps_alive: bool,
    /// Whether the client waits for `100 Continue` (RFC 9110, 10.1.1).
    pub(super) expects_continue: bool,
    pub(super) version: Version,
    pub(super) is_head: bool,
}

/// The search for the end of a head. It continues at its last position when more bytes arrive.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    /// The start of the request line: after one empty line at most (RFC 9112, 2.2).
    began: usize,
    /// The start of the current line.
    line: usize,
    /// The bytes before this position are searched.
    searched: usize,
    lines: usize,
}

impl HeadScanner {
    /// The length of the head with its empty line; `None` until the empty line has arrived.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        self.check_start(bytes)?;
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.searched..]) {
            let (start, feed) = (self.line, self.searched + at);
            if feed == start || bytes[feed - 1] != b'\r' {
                return Err(HeadError::Malformed("a line does not end with CRLF"));
            }
            self.line = feed + 1;
            self.searched = self.line;
            if self.line > HEAD_BYTES_MAX {
                break;
            }
            if feed - 1 > start {
                self.lines += 1;
            } else if start > self.began {
                return Ok(Some(self.line));
            } else if start == 0 {
                self.began = self.line;
                self.check_start(bytes)?;
            } else {
                return Err(HeadError::Malformed("empty lines before the request line"));
            }
            // The request line counts as a line too.
            if self.lines > HEADERS_MAX + 1 {
                return Err(HeadError::TooLarge);
            }
        }
        self.searched = bytes.len();
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(if self.lines == 0 { HeadError::TargetTooLong } else { HeadError::TooLarge });
        }
        Ok(None)
    }

    /// Refuses at the first byte a stream that cannot be a request.
    fn check_start(&self, bytes: &[u8]) -> Result<(), HeadError> {
        match bytes.get(self.began) {
            Some(byte) if *byte != b'\r' && !is_token(*byte) => {
                Err(HeadError::Malformed("the method is not a token"))
            }
            _ => Ok(()),
        }
    }
}

/// Parses a complete head into actix's.
pub(super) fn parse(bytes: &Bytes, into: &mut RequestHead) -> Result<HeadInfo, HeadError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(HeadError::Malformed("the head ends early")),
        Err(error) => return Err(map_parse_error(error)),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(HeadError::Malformed("no request line"));
    };
    into.method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed("the method"))?;
    into.uri = parse_target(bytes, target)?;
    into.version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut connection = ConnectionHeader::default();
    let (mut is_framed, mut expects) = (false, false);
    for header in parsed.headers.iter() {
        let malformed = |_| HeadError::Malformed("a header");
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| malformed(()))?;
        let value = bytes.slice_ref(header.value);
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| malformed(()))?;
        if name == CONNECTION {
            connection.read(value.as_bytes());
        } else if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            is_framed = true;
        } else if name == EXPECT {
            expects = request_validation::is_expect_continue(&value);
        }
        into.headers.append(name, value);
    }
    let length = if is_framed {
        request_validation::parse_body_length(into.version, HeaderView::of(&into.headers)).ok()
    } else {
        Some(BodyLength::Empty)
    };
    Ok(HeadInfo {
        length,
        keeps_alive: connection.persists(into.version),
        // HTTP/1.0 has no interim responses.
        expects_continue: expects && into.version == Version::HTTP_11,
        version: into.version,
        is_head: into.method == Method::HEAD,
    })
}

/// Parses the target: printable ASCII without a fragment (RFC 9112, 3.2), in any of its four forms.
fn parse_target(bytes: &Bytes, target: &str) -> Result<Uri, HeadError> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(HeadError::TargetTooLong);
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(HeadError::Malformed(
            "the target has a fragment, or characters other than printable ASCII",
        ));
    }
    Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).map_err(|_| HeadError::Malformed("the target"))
}

fn map_parse_error(error: httparse::Error) -> HeadError {
    HeadError::Malformed(match error {
        httparse::Error::TooManyHeaders => return HeadError::TooLarge,
        httparse::Error::HeaderName => "the name of a header",
        httparse::Error::HeaderValue => "the value of a header",
        httparse::Error::NewLine => "a line does not end with CRLF",
        httparse::Error::Version => "the version is neither HTTP/1.1 nor HTTP/1.0",
        httparse::Error::Token | httparse::Error::Status => "the request line",
    })
}

/// The options of `Connection` that decide on persistence.
#[derive(Default)]
struct ConnectionHeader {
    closes: bool,
    keeps_alive: bool,
}

impl ConnectionHeader {
    fn read(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn persists(&self, version: Version) -> bool {
        !self.closes && (self.keeps_alive || version == Version::HTTP_11)
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
