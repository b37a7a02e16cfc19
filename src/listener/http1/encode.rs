//! Encodes the head of a response, and chooses the framing of its body (RFC 9112, 6.3; RFC 9110, 8.6).
//!
//! No I/O. Only this module writes the headers of the connection and of the framing; those of the application are
//! dropped. So an upgrade that does not take place is not announced, and the length is the body's.

use actix_web::body::BodySize;
use actix_web::dev::ResponseHead;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use actix_web::http::{StatusCode, Version};

use crate::listener::http1::head::HeadInfo;

/// How the end of a body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFraming {
    /// There is no body.
    NoBody,
    /// After this number of bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// When the connection closes: HTTP/1.0 has no chunks.
    UntilClose,
}

impl ResponseFraming {
    pub(super) fn of(request: &HeadInfo, status: StatusCode, size: BodySize) -> Self {
        if request.is_head || is_bodyless(status) {
            return Self::NoBody;
        }
        match size {
            BodySize::None => Self::Length(0),
            BodySize::Sized(bytes) => Self::Length(bytes),
            BodySize::Stream if request.version == Version::HTTP_11 => Self::Chunked,
            BodySize::Stream => Self::UntilClose,
        }
    }
}

fn is_bodyless(status: StatusCode) -> bool {
    matches!(status.as_u16(), 100..=199 | 204 | 304)
}

/// Writes the head of the response to `request`.
pub(super) fn write_head(
    into: &mut Vec<u8>,
    head: &ResponseHead,
    (request, size, transfer): (&HeadInfo, BodySize, ResponseFraming),
    keeps_alive: bool,
    date: &[u8],
) {
    into.extend_from_slice(b"HTTP/1.1 ");
    into.extend_from_slice(head.status.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(head.reason().as_bytes());
    into.extend_from_slice(b"\r\n");
    write_framing(into, head.status, (request, size, transfer));
    match (keeps_alive, request.version) {
        (false, _) => into.extend_from_slice(b"connection: close\r\n"),
        (true, Version::HTTP_11) => {}
        (true, _) => into.extend_from_slice(b"connection: keep-alive\r\n"),
    }
    // A 304 has the length of the body that a 200 would have.
    let keeps_length = head.status.as_u16() == 304;
    let mut has_date = false;
    for (name, value) in head.headers() {
        if *name == CONNECTION || *name == TRANSFER_ENCODING || *name == UPGRADE {
            continue;
        }
        if *name == CONTENT_LENGTH && !keeps_length {
            continue;
        }
        has_date |= *name == DATE;
        write_header(into, name.as_str(), value.as_bytes());
    }
    if !has_date {
        write_header(into, "date", date);
    }
    into.extend_from_slice(b"\r\n");
}

fn write_framing(
    into: &mut Vec<u8>,
    status: StatusCode,
    (request, size, transfer): (&HeadInfo, BodySize, ResponseFraming),
) {
    let length = match (transfer, size) {
        (ResponseFraming::Length(bytes), _) => Some(bytes),
        // The length of the body of the same GET.
        (ResponseFraming::NoBody, BodySize::Sized(bytes)) if request.is_head && !is_bodyless(status) => {
            Some(bytes)
        }
        _ => None,
    };
    if let Some(bytes) = length {
        write_header(into, "content-length", itoa::Buffer::new().format(bytes).as_bytes());
    } else if transfer == ResponseFraming::Chunked {
        write_header(into, "transfer-encoding", b"chunked");
    }
}

fn write_header(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}

/// Writes an interim response (RFC 9110, 15.2).
pub(super) fn write_interim(into: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    into.extend_from_slice(b"HTTP/1.1 ");
    into.extend_from_slice(status.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    into.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        write_header(into, name.as_str(), value.as_bytes());
    }
    into.extend_from_slice(b"\r\n");
}

/// Writes a response without a body to bytes that are not a request. The connection closes after it.
pub(super) fn write_refusal(into: &mut Vec<u8>, status: StatusCode, date: &[u8]) {
    into.extend_from_slice(b"HTTP/1.1 ");
    into.extend_from_slice(status.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    into.extend_from_slice(b"\r\ncontent-length: 0\r\nconnection: close\r\n");
    write_header(into, "date", date);
    into.extend_from_slice(b"\r\n");
}

/// Writes the size line of a chunk.
pub(super) fn write_chunk_size(into: &mut Vec<u8>, bytes: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    into.extend((0..nibbles).rev().map(|nibble| DIGITS[bytes >> (4 * nibble) & 0xf]));
    into.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
