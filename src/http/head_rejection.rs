//! Why the bytes of a connection are not the head of an HTTP/1.1 request. Their statuses are in `error/`.

use thiserror::Error;

/// Why bytes are not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum HeadError {
    /// They break the grammar of RFC 9112.
    #[error("malformed request head: {0}")]
    Malformed(&'static str),
    /// The request line is longer than the bound of memory.
    #[error("request line too long")]
    TargetTooLong,
    /// The headers are longer, or more, than the bounds of memory.
    #[error("request headers too long or too many")]
    TooLarge,
}

/// Why a connection gets a response to bytes that are not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadRejection {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("the request's head did not arrive within server.header_timeout")]
    Timeout,
}
