//! The head of a request, as the S3 rules read it, and the declared length of its body.

use crate::headers::Headers;

/// The declared length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No body.
    Empty,
    /// This number of bytes.
    Known(u64),
    /// Chunked.
    Chunked,
}

impl BodyLength {
    /// The number of bytes on the wire, if it is declared.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Known(bytes) => Some(bytes),
            Self::Chunked => None,
        }
    }
}

/// A view of a request's head. The caller implements it for the type of its HTTP library, so nothing is copied.
pub trait RequestHead<'a>: Copy {
    /// The method, such as `GET`.
    fn method(self) -> &'a str;

    /// The path of the target as it was sent.
    fn path(self) -> &'a str;

    /// The query of the target as it was sent; empty if there is none.
    fn query(self) -> &'a str;

    /// The authority of the target, which names the host in HTTP/2.
    fn authority(self) -> Option<&'a str>;

    /// The headers.
    fn headers(self) -> impl Headers<'a>;
}
