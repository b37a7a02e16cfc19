//! The head of a request, as signatures, operations and validation read it.

use actix_web::dev::RequestHead;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, Uri, Version};

/// The declared length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// No body.
    Empty,
    /// This number of bytes.
    Known(u64),
    /// Chunked.
    Chunked,
}

impl BodyLength {
    /// The number of bytes on the wire, if it is declared.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Known(bytes) => Some(bytes),
            Self::Chunked => None,
        }
    }
}

/// The parts of a request that validation and authentication read.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

impl<'a> From<&'a RequestHead> for Head<'a> {
    fn from(head: &'a RequestHead) -> Self {
        Self { method: &head.method, uri: &head.uri, version: head.version, headers: &head.headers }
    }
}
