//! The first part of a store's error document, from which the error code is read (R1, B3, C3).
//!
//! The meaning of an S3 error is in the code of its document, not in its status. The document is read to its end, or
//! until 8 KiB, one second or the time of the request are reached, and the code is searched in that part. The length
//! and the pace of a document do not matter otherwise: the client gets the part that was read first, then the rest.
//! The same holds for a document that breaks off: a store that responds in mid-upload and closes may lose the rest of
//! its document, and a client can provoke that. AWS sends error documents of more than 8 KiB in chunks if a request
//! has a session token.
//!
//! Source: S3 API reference, "Error responses".

use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tidegate_actors::clock;
use tokio::time::timeout_at;

use crate::upstream::exchange::sent_request::ResponseParts;

/// The code must be within this many bytes.
const BYTES_MAX: usize = 8 << 10;
/// The time limit for the first part of a document.
const TIME_MAX: Duration = Duration::from_secs(1);

/// The part of an error document that was read.
pub(crate) struct ErrorDocumentPrefix {
    pub(crate) bytes: Bytes,
    pub(crate) remaining: RemainingBody,
}

/// The rest of the body after the bytes that were read.
pub(crate) enum RemainingBody {
    /// The document is complete.
    Complete,
    /// More bytes, or the end, are still to be read.
    Stream,
    /// The connection broke.
    Broken(io::Error),
}

impl ErrorDocumentPrefix {
    /// Reads the first part of the document of this response, at most until `due`.
    pub(crate) async fn read(response: &mut impl ResponseParts, due: Instant) -> Self {
        let due = due.min(clock::now() + TIME_MAX);
        let mut bytes = BytesMut::new();
        let remaining =
            timeout_at(due.into(), read_prefix(&mut bytes, response)).await.unwrap_or(RemainingBody::Stream);
        Self { bytes: bytes.freeze(), remaining }
    }

    /// Whether the connection broke within the part that was read.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.remaining, RemainingBody::Broken(_))
    }

    /// The error code.
    pub(crate) fn code(&self) -> Option<String> {
        error_code(self.prefix())
    }

    /// The text of an element in the part that was read.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        element(self.prefix(), name)
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(BYTES_MAX)]
    }
}

/// The error code in a document.
pub(crate) fn error_code(document: &[u8]) -> Option<String> {
    element(document, "Code")
}

async fn read_prefix(into: &mut BytesMut, body: &mut impl ResponseParts) -> RemainingBody {
    while into.len() < BYTES_MAX {
        match body.next().await {
            None => return RemainingBody::Complete,
            Some(Ok(piece)) => into.extend_from_slice(&piece),
            Some(Err(error)) => return RemainingBody::Broken(error),
        }
    }
    RemainingBody::Stream
}

/// The text of the first element with this name. Error documents have no attributes and no nested elements of the
/// same name.
fn element(document: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(document);
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> ErrorDocumentPrefix {
        ErrorDocumentPrefix {
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            remaining: RemainingBody::Stream,
        }
    }

    /// E2
    #[test]
    fn the_error_code_is_found() {
        let of = |text: &str| document(text).code();
        let body = "<?xml version=\"1.0\"?><Error><Code> SlowDown\n</Code><Message>x</Message></Error>";
        assert_eq!(of(body).as_deref(), Some("SlowDown"));
        for none in ["<html>", "", "<Error><Code>SlowDo", "<Error><Message>Code</Message>"] {
            assert_eq!(of(none), None, "{none}");
        }
        let time = "<Error><Code>x</Code><ServerTime>2026-11-29T11:09:20Z</ServerTime></Error>";
        assert_eq!(document(time).element("ServerTime").as_deref(), Some("2026-11-29T11:09:20Z"));
    }

    /// E2, E6: the same part of a document decides, however it is split into pieces
    #[test]
    fn a_code_beyond_the_limit_is_ignored() {
        let behind = |padding: usize| format!("<Error>{}<Code>SlowDown</Code>", " ".repeat(padding));
        let exact = BYTES_MAX - "<Error><Code>SlowDown</Code>".len();
        assert_eq!(document(&behind(exact)).code().as_deref(), Some("SlowDown"));
        assert_eq!(document(&behind(exact + 1)).code(), None);
    }
}
