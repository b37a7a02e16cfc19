//! The source of the bytes of a response body, and how the body must end.
//!
//! A body ends in one of four ways: by its length, by the last chunk, by the close of the connection, or it does not
//! exist (RFC 9112, 6.3). That decides whether a closed connection completes the body or truncates it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::BodySize;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use futures_util::Stream;

use crate::upstream::exchange::sent_request::ReceivedResponse;
use crate::upstream::response::error_document::{ErrorDocumentPrefix, RemainingBody};

/// How a response body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamFraming {
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the close of the connection.
    Close,
    /// There is no body (HEAD, 204, 304).
    NoBody,
}

impl UpstreamFraming {
    /// The framing of a response body, from its headers, its status and the request method.
    pub(crate) fn of(headers: &HeaderMap, status: StatusCode, method: &Method) -> Self {
        if method == Method::HEAD || matches!(status.as_u16(), 100..=199 | 204 | 304) {
            return Self::NoBody;
        }
        if headers.contains_key(TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        content_length(headers).map_or(Self::Close, Self::Length)
    }

    /// The body size of the client's response.
    pub(crate) fn body_size(self, headers: &HeaderMap, method: &Method) -> BodySize {
        match self {
            Self::Length(bytes) => BodySize::Sized(bytes),
            Self::Chunked | Self::Close => BodySize::Stream,
            // The response to HEAD keeps the length of the body that GET would have.
            Self::NoBody if method == Method::HEAD => {
                content_length(headers).map_or(BodySize::None, BodySize::Sized)
            }
            Self::NoBody => BodySize::None,
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Whether a body broke because the upstream closed the connection, see `exchange/connection.rs`.
pub(crate) fn is_connection_close(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(cause) | PayloadError::Incomplete(Some(cause))
        if cause.kind() == io::ErrorKind::UnexpectedEof)
}

/// The source of the bytes.
pub(crate) enum ResponseSource {
    /// A document that was read whole. Its response must not be polled again.
    Document(Bytes),
    /// The first part of a document that was read for its error code, and the response with the rest.
    Prefixed(Bytes, ReceivedResponse),
    /// The first part of a document, after which the connection broke.
    Broken(Bytes, PayloadError),
    /// The response. Dropped before its end, it closes its connection.
    Stream(ReceivedResponse),
    /// Nothing is left.
    Ended,
}

impl ResponseSource {
    /// The source of a response body, of which a part may have been read already.
    pub(crate) fn of(response: ReceivedResponse, document: Option<ErrorDocumentPrefix>) -> Self {
        let Some(ErrorDocumentPrefix { bytes, remaining }) = document else { return Self::Stream(response) };
        match remaining {
            RemainingBody::Complete => Self::Document(bytes),
            RemainingBody::Stream => Self::Prefixed(bytes, response),
            RemainingBody::Broken(error) => Self::Broken(bytes, error),
        }
    }

    /// The next piece of the body. None at its end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if let Self::Stream(response) = self {
            return Pin::new(response).poll_next(cx);
        }
        let (piece, rest) = match std::mem::replace(self, Self::Ended) {
            Self::Document(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Document(bytes) => (bytes, Self::Document(Bytes::new())),
            Self::Broken(bytes, error) if bytes.is_empty() => return Poll::Ready(Some(Err(error))),
            Self::Broken(bytes, error) => (bytes, Self::Broken(Bytes::new(), error)),
            Self::Prefixed(bytes, response) => (bytes, Self::Stream(response)),
            Self::Stream(_) | Self::Ended => return Poll::Ready(None),
        };
        *self = rest;
        if piece.is_empty() { self.poll(cx) } else { Poll::Ready(Some(Ok(piece))) }
    }
}
