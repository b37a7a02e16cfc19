//! The bytes of an answer's body, and how the body must end.
//!
//! A body has one of four ends: its length, the last chunk, the close of the connection, or none at all (RFC 9112, 6.3). The end decides
//! whether a closed connection finishes the body or cuts it short.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::BodySize;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use actix_web::http::{Method, StatusCode};
use awc::ClientResponse;
use bytes::Bytes;
use futures_util::Stream;

use crate::upstream::error_document::{ErrorDocumentPrefix, RemainingBody};

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamFraming {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// When the upstream closes.
    Close,
    /// It has no body (HEAD, 204, 304).
    NoBody,
}

impl UpstreamFraming {
    /// The end of an answer's body by its head and the method of its request.
    pub(super) fn of(headers: &HeaderMap, status: StatusCode, method: &Method) -> Self {
        if method == Method::HEAD || matches!(status.as_u16(), 100..=199 | 204 | 304) {
            return Self::NoBody;
        }
        if headers.contains_key(TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        content_length(headers).map_or(Self::Close, Self::Length)
    }

    /// The size that the client's answer states.
    pub(super) fn body_size(self, headers: &HeaderMap, method: &Method) -> BodySize {
        match self {
            Self::Length(bytes) => BodySize::Sized(bytes),
            Self::Chunked | Self::Close => BodySize::Stream,
            // HEAD keeps the length of the body that GET would have had.
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

/// Whether a body broke because the upstream closed the connection, see `connection.rs`.
pub(super) fn is_connection_close(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(cause) | PayloadError::Incomplete(Some(cause))
        if cause.kind() == io::ErrorKind::UnexpectedEof)
}

/// Where the bytes come from.
pub(super) enum ResponseSource {
    /// A document that was read whole; its response is at its end and must not be polled again.
    Document(Bytes),
    /// The beginning of a document that was read for its error code, and the upstream, which has the rest.
    Prefixed(Bytes, ClientResponse),
    /// The beginning of a document, behind which the connection broke.
    Broken(Bytes, PayloadError),
    /// The upstream. Dropped before its end, it takes its connection along.
    Stream(ClientResponse),
    /// Nothing more comes.
    Ended,
}

impl ResponseSource {
    /// The source of an answer's body, some of which may have been read already.
    pub(super) fn of(response: ClientResponse, document: Option<ErrorDocumentPrefix>) -> Self {
        let Some(ErrorDocumentPrefix { bytes, remaining }) = document else { return Self::Stream(response) };
        match remaining {
            RemainingBody::Complete => Self::Document(bytes),
            RemainingBody::Stream => Self::Prefixed(bytes, response),
            RemainingBody::Broken(error) => Self::Broken(bytes, error),
        }
    }

    /// The next piece of the body; none at its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
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
