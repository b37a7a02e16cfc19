//! Why the head of a response is refused.

use thiserror::Error;

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ResponseHeadError {
    #[error("it is not an HTTP/1 response")]
    Protocol,
    #[error("the version of HTTP is neither 1.1 nor 1.0")]
    Version,
    #[error("the status line is malformed")]
    StatusLine,
    #[error("the name of a header is malformed")]
    Name,
    #[error("the value of a header is malformed")]
    Value,
    #[error("a line of the head does not end")]
    LineEnd,
    #[error("the head is longer than the limit")]
    TooLong,
    #[error("the head has more headers than the limit")]
    TooManyFields,
    #[error("the Content-Length is not a number of bytes")]
    Length,
    #[error("two Content-Lengths differ")]
    DifferentLengths,
    #[error("the head has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    #[error("the Transfer-Encoding is not `chunked` alone in HTTP/1.1")]
    Coding,
    #[error("the upstream switches protocols without a request for it")]
    Switch,
}
