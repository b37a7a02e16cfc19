//! The beginning of a store's error document, from which its error code is read (R1, B3, C3).
//!
//! The status of an S3 error does not tell its meaning, the code in its document does. The document is read to its end, or until
//! 8 KiB of it, one second or the request's time are over, and the code is looked for in that part. A document of any length and any
//! pace is an answer like any other: the part that was read goes to the client first and the rest follows. So is one
//! that breaks off: a store that answers in mid-upload and closes may take the rest of its document along, which a
//! client can provoke. AWS sends error documents of more than 8 KiB in chunks where a request carries a session
//! token.
//!
//! Source: S3 API reference, "Error responses".

use std::time::{Duration, Instant};

use actix_web::error::PayloadError;
use actix_web::http::Method;
use awc::ClientResponse;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tidegate_actors::clock;
use tokio::time::timeout_at;

use crate::upstream::response_source::{UpstreamFraming, is_connection_close};

/// The code stands within this many bytes.
const BYTES_MAX: usize = 8 << 10;
/// How long the beginning of a document is waited for.
const TIME_MAX: Duration = Duration::from_secs(1);

/// What was read of an error document.
pub(crate) struct ErrorDocumentPrefix {
    pub(super) bytes: Bytes,
    pub(super) remaining: RemainingBody,
}

/// What comes behind the bytes that were read.
pub(super) enum RemainingBody {
    /// Nothing: that is the whole document.
    Complete,
    /// More, or the end.
    Stream,
    /// The connection broke.
    Broken(PayloadError),
}

impl ErrorDocumentPrefix {
    /// Reads the beginning of the document of this answer, until `due` at most.
    pub(super) async fn read(response: &mut ClientResponse, method: &Method, due: Instant) -> Self {
        let due = due.min(clock::now() + TIME_MAX);
        let ending = UpstreamFraming::of(response.headers(), response.status(), method);
        let mut bytes = BytesMut::new();
        let remaining = timeout_at(due.into(), read_prefix(&mut bytes, response, ending))
            .await
            .unwrap_or(RemainingBody::Stream);
        Self { bytes: bytes.freeze(), remaining }
    }

    /// Whether the connection broke within it.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.remaining, RemainingBody::Broken(_))
    }

    /// The error code.
    pub(super) fn code(&self) -> Option<String> {
        error_code(self.prefix())
    }

    /// The text of an element, if the beginning of the document holds it.
    pub(super) fn element(&self, name: &str) -> Option<String> {
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

async fn read_prefix(
    into: &mut BytesMut,
    body: &mut ClientResponse,
    ending: UpstreamFraming,
) -> RemainingBody {
    while into.len() < BYTES_MAX {
        match body.next().await {
            None => return RemainingBody::Complete,
            Some(Ok(piece)) => into.extend_from_slice(&piece),
            Some(Err(error)) if ending == UpstreamFraming::Close && is_connection_close(&error) => {
                return RemainingBody::Complete;
            }
            Some(Err(error)) => return RemainingBody::Broken(error),
        }
    }
    RemainingBody::Stream
}

/// The text of the first element with this name. Error documents have no attributes and no nested elements of the same name.
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

    /// E2, E6: whatever the pieces are in which a document comes, the same part of it decides
    #[test]
    fn a_code_beyond_the_limit_is_ignored() {
        let behind = |padding: usize| format!("<Error>{}<Code>SlowDown</Code>", " ".repeat(padding));
        let exact = BYTES_MAX - "<Error><Code>SlowDown</Code>".len();
        assert_eq!(document(&behind(exact)).code().as_deref(), Some("SlowDown"));
        assert_eq!(document(&behind(exact + 1)).code(), None);
    }
}
