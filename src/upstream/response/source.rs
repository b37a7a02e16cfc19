//! The source of the bytes of a response body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use crate::buffers::pipe::PipedBytes;
use crate::upstream::exchange::sent_request::ReceivedResponse;
use crate::upstream::response::error_document::{ErrorDocumentPrefix, RemainingBody};

/// Whether a body broke because the upstream closed the connection.
pub(crate) fn is_connection_close(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// The source of the bytes.
pub(crate) enum ResponseSource {
    /// A document that was read whole. Its response must not be polled again.
    Document(Bytes),
    /// The first part of a document that was read for its error code, and the response with the rest.
    Prefixed(Bytes, ReceivedResponse),
    /// The first part of a document, after which the connection broke.
    Broken(Bytes, io::Error),
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

    /// The next bytes of the body in the pipe of the thread, at most `max`. None if they must be polled as a piece.
    pub(crate) fn poll_piped(
        &mut self,
        cx: &mut Context<'_>,
        max: u64,
    ) -> Poll<io::Result<Option<PipedBytes>>> {
        match self {
            Self::Stream(response) => response.poll_piped(cx, max),
            Self::Document(_) | Self::Prefixed(..) | Self::Broken(..) | Self::Ended => Poll::Ready(Ok(None)),
        }
    }

    /// The next piece of the body. None at its end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
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
