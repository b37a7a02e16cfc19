//! Parses the head of a response (RFC 9112, 2 to 6), or returns why it is refused.
//!
//! Two steps, as for requests (`listener/http1/head.rs`). [`ResponseHeadScanner`] searches the end of the head as bytes arrive, so a head
//! in many pieces costs no more than a whole one, and refuses at the first byte what is not HTTP/1. [`parse`] reads a complete head:
//! `httparse` splits it into slices of the read buffer, which become the headers of the client's response without a copy.
//!
//! Lines may end with a bare LF (RFC 9112, 2.2) and white space may precede a colon (5.1): a client never sees either, because the
//! gateway writes the head anew. Folded lines are refused (5.2).

use std::mem::MaybeUninit;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use bytes::Bytes;
use httparse::ParserConfig;

use crate::upstream::exchange::common_names::header_name;
use crate::upstream::exchange::memory;
use crate::upstream::exchange::response_framing::{FramingFields, Persistence, UpstreamFraming};
use crate::upstream::exchange::response_head_error::ResponseHeadError;

/// The most fields that the configuration allows.
const FIELDS_MAX: usize = 256;
const KEEP_ALIVE: &str = "keep-alive";
/// The beginning of each head.
const PROTOCOL: &[u8] = b"HTTP/1.";

/// Limits of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResponseHeadLimits {
    /// The length in bytes, with the status line and with all interim responses before it.
    pub(crate) bytes_max: usize,
    /// The number of fields.
    pub(crate) fields_max: usize,
}

/// The search for the end of a head. It continues at its last position when more bytes arrive.
#[derive(Debug, Default)]
pub(super) struct ResponseHeadScanner {
    /// The start of the current line.
    line: usize,
    /// The bytes before this position are searched.
    searched: usize,
    lines: usize,
}

impl ResponseHeadScanner {
    /// The length of the head with its empty line; none until the empty line has arrived.
    pub(super) fn end(
        &mut self,
        bytes: &[u8],
        limits: ResponseHeadLimits,
    ) -> Result<Option<usize>, ResponseHeadError> {
        if self.lines == 0 {
            check_start(bytes)?;
        }
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.searched..]) {
            let (start, feed) = (self.line, self.searched + at);
            (self.line, self.searched) = (feed + 1, feed + 1);
            if feed + 1 > limits.bytes_max {
                return Err(ResponseHeadError::TooLong);
            }
            if matches!(bytes[start..feed], [] | [b'\r']) {
                return Ok(Some(feed + 1));
            }
            // The status line counts as a line too.
            if self.lines > limits.fields_max {
                return Err(ResponseHeadError::TooManyFields);
            }
            self.lines += 1;
        }
        self.searched = bytes.len();
        if bytes.len() >= limits.bytes_max { Err(ResponseHeadError::TooLong) } else { Ok(None) }
    }
}

/// Refuses a stream that cannot be a response as soon as a byte shows it.
fn check_start(bytes: &[u8]) -> Result<(), ResponseHeadError> {
    let common = bytes.len().min(PROTOCOL.len());
    match bytes[..common] == PROTOCOL[..common] {
        true => Ok(()),
        false if bytes.starts_with(b"HTTP/") => Err(ResponseHeadError::Version),
        false => Err(ResponseHeadError::Protocol),
    }
}

/// A complete head.
#[derive(Debug)]
pub(super) struct ParsedHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: UpstreamFraming,
    pub(super) persistence: Persistence,
}

/// Parses a complete head. `is_head`: it responds to HEAD.
pub(super) fn parse(
    bytes: &Bytes,
    is_head: bool,
    limits: ResponseHeadLimits,
) -> Result<ParsedHead, ResponseHeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let fields = &mut fields[..limits.fields_max.min(FIELDS_MAX)];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    match config.parse_response_with_uninit_headers(&mut parsed, bytes, fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(ResponseHeadError::LineEnd),
        Err(error) => return Err(map_parse_error(error)),
    }
    let status: Option<StatusCode> = parsed.code.and_then(|code| code.try_into().ok());
    let status = status.ok_or(ResponseHeadError::StatusLine)?;
    let mut framing = FramingFields::default();
    let mut headers = memory::take_headers();
    for header in parsed.headers.iter() {
        let name = header_name(header.name.as_bytes()).ok_or(ResponseHeadError::Name)?;
        let mut value = header.value;
        // By length first: most names are none of these.
        match header.name.len() {
            14 if name == CONTENT_LENGTH && !status.is_informational() => match framing.read_length(value)? {
                Some(text) => value = text,
                None => continue,
            },
            17 if name == TRANSFER_ENCODING => framing.read_coding(value),
            10 if name == CONNECTION => framing.read_connection(value),
            10 if name.as_str() == KEEP_ALIVE => framing.read_keep_alive(value),
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value));
        headers.append(name, value.map_err(|_| ResponseHeadError::Value)?);
    }
    let (framing, persistence) = match status.is_informational() {
        true => (UpstreamFraming::NoBody, Persistence::Persists(None)),
        false => framing.decide((status, parsed.version == Some(0)), is_head)?,
    };
    Ok(ParsedHead { status, headers, framing, persistence })
}

fn map_parse_error(error: httparse::Error) -> ResponseHeadError {
    match error {
        httparse::Error::TooManyHeaders => ResponseHeadError::TooManyFields,
        httparse::Error::HeaderName => ResponseHeadError::Name,
        httparse::Error::HeaderValue => ResponseHeadError::Value,
        httparse::Error::NewLine => ResponseHeadError::LineEnd,
        httparse::Error::Version => ResponseHeadError::Version,
        httparse::Error::Token | httparse::Error::Status => ResponseHeadError::StatusLine,
    }
}

#[cfg(test)]
#[path = "response_head_tests.rs"]
mod tests;
