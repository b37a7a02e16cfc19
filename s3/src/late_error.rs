//! Detects errors in a 200 response (R1, E2): stores respond to CompleteMultipartUpload and CopyObject with 200 before they have finished,
//! and may then send an error document.
//!
//! The bytes are forwarded immediately, because clients may wait for minutes. The scan stores the start of the document. It skips the white
//! space before and after the declaration, which stores send to keep the connection alive. It stores more of an error than of any other
//! document, because the code may follow a long message.

use crate::headers::{Headers, KnownHeader};
use crate::request::RequestHead;
use crate::upload::completion;

/// Whether a 200 response to this request may have an error document: copies and CompleteMultipartUpload.
pub fn is_possible<'a>(head: impl RequestHead<'a>) -> bool {
    match head.method() {
        "PUT" => head.headers().contains(KnownHeader::CopySource),
        method => completion::is_completion(method, head.query()),
    }
}

/// Scans the start of a document while it is streamed.
#[derive(Debug, Default)]
pub struct LateErrorScan {
    head: Vec<u8>,
}

/// The codes that S3 sends with 500 or 503 ("Error responses", S3 API reference), and the codes of other stores for the same errors.
const STORE_FAULT_CODES: [&str; 4] =
    ["InternalError", "InternalFailure", "ServiceUnavailable", "UnknownError"];

/// The stored bytes of any document: enough for a declaration and the name of the first element.
const HEAD_MAX: usize = 512;
/// The stored bytes of an error document. Its code must be within them.
const ERROR_BYTES_MAX: usize = 8 << 10;

impl LateErrorScan {
    /// Scans the next bytes of the document.
    pub fn scan(&mut self, bytes: &[u8]) {
        let mut rest = bytes.iter();
        while self.needs_more()
            && let Some(byte) = rest.next()
        {
            let is_padding =
                byte.is_ascii_whitespace() && (self.head.is_empty() || self.head.ends_with(b"?>"));
            if !is_padding {
                self.head.push(*byte);
            }
        }
    }

    fn needs_more(&self) -> bool {
        match self.head.len() {
            ..HEAD_MAX => true,
            HEAD_MAX => self.is_error(),
            bytes => bytes < ERROR_BYTES_MAX,
        }
    }

    /// Whether the document is an error that the store caused. Missing or too small parts, a failed condition and similar errors are caused
    /// by the client's request, although the status is 200.
    pub fn is_store_fault(&self) -> bool {
        let text = String::from_utf8_lossy(&self.head);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        self.is_error() && code.is_none_or(|(code, _)| STORE_FAULT_CODES.contains(&code.trim()))
    }

    /// Whether the document is an error.
    pub fn is_error(&self) -> bool {
        let text = String::from_utf8_lossy(&self.head);
        let body = text.split_once("?>").map_or(&*text, |(_, body)| body);
        let body = body.trim_start();
        body.starts_with("<Error>") || body.starts_with("<Error ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R1, E2
    #[test]
    fn an_error_document_is_detected_after_white_space_and_across_chunks() {
        let mut scan = LateErrorScan::default();
        for chunk in [" \n", "  ", "<?xml version=\"1.0\"?>\n<Er", "ror><Code>InternalError"] {
            scan.scan(chunk.as_bytes());
        }
        assert!(scan.is_error());
        for padding in ["\n", ""] {
            let mut padded = LateErrorScan::default();
            padded.scan(format!("{padding}<?xml version=\"1.0\"?>{}", " \n".repeat(600)).as_bytes());
            padded.scan(b"  <Error><Code>InternalError</Code></Error>");
            assert!(padded.is_error() && padded.is_store_fault(), "{padding:?}");
        }
        let mut success = LateErrorScan::default();
        success.scan(b"  <?xml version=\"1.0\"?><CopyObjectResult><ETag>&lt;Error&gt;</ETag>");
        assert!(!success.is_error() && !success.is_store_fault());
    }

    /// B3: the code determines whether an error in a 200 response is the store's fault or the client's
    #[test]
    fn the_code_determines_the_fault() {
        let of = |document: &str| {
            let mut scan = LateErrorScan::default();
            scan.scan(document.as_bytes());
            (scan.is_error(), scan.is_store_fault())
        };
        assert_eq!(of("<Error><Code>InternalError</Code></Error>"), (true, true));
        assert_eq!(of("<Error></Error>"), (true, true));
        let late = |bytes| format!("<Error><Message>{}</Message><Code>InvalidPart</Code>", "m".repeat(bytes));
        assert_eq!((of(&late(7000)), of(&late(9000))), ((true, false), (true, true)));
        for code in ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "PreconditionFailed", "SlowDown"] {
            assert_eq!(of(&format!("<Error><Code>{code}</Code></Error>")), (true, false), "{code}");
        }
    }
}
