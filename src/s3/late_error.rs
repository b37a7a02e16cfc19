//! Errors behind a 200 (R1, E2): stores answer CompleteMultipartUpload and CopyObject with 200 before they have finished, and may send an
//! error document then.
//!
//! The bytes pass on as they come, because a client waits for them for minutes. The scan keeps the start of the document: it leaves out the
//! white space that a store sends to keep the connection alive, before the declaration or behind it, and it keeps more of an error than
//! of any other document, because the code may stand behind a long message.

use actix_web::http::Method;

use crate::http::request_validation::Head;
use crate::s3::copy_source::COPY_SOURCE;
use crate::s3::upload::completion;

/// Operations whose 200 may turn out to be an error document: those that the store works on until it answers.
pub(crate) fn is_possible(head: Head<'_>) -> bool {
    match *head.method {
        Method::PUT => head.headers.contains_key(COPY_SOURCE),
        Method::POST => head.uri.query().is_some_and(|query| completion::is_completion(head.method, query)),
        _ => false,
    }
}

/// Looks at the first element of a document as it streams by.
#[derive(Debug, Default)]
pub(crate) struct LateErrorScan {
    head: Vec<u8>,
}

/// Codes of errors that S3 answers with 500 or 503 ("Error responses", S3 API reference), and those that other stores use for it.
const STORE_FAULT_CODES: [&str; 4] =
    ["InternalError", "InternalFailure", "ServiceUnavailable", "UnknownError"];

/// Enough for a declaration and the first element's name.
const HEAD_MAX: usize = 512;
/// An error's code stands within this many bytes.
const ERROR_BYTES_MAX: usize = 8 << 10;

impl LateErrorScan {
    pub(crate) fn scan(&mut self, bytes: &[u8]) {
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

    /// Whether an error in the document is the store's own. Parts that are missing or too small, a failed condition and the like are
    /// the client's doing, though they come behind a 200.
    pub(crate) fn is_store_fault(&self) -> bool {
        let text = String::from_utf8_lossy(&self.head);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        self.is_error() && code.is_none_or(|(code, _)| STORE_FAULT_CODES.contains(&code.trim()))
    }

    /// Whether the document is an error.
    pub(crate) fn is_error(&self) -> bool {
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
    fn an_error_document_is_seen_behind_white_space_and_across_chunks() {
        let mut scan = LateErrorScan::default();
        for chunk in [" \n", "  ", "<?xml version=\"1.0\"?>\n<Er", "ror><Code>InternalError"] {
            scan.scan(chunk.as_bytes());
        }
        assert!(scan.is_error());
        for padding in ["\n", ""] {
            let mut behind = LateErrorScan::default();
            behind.scan(format!("{padding}<?xml version=\"1.0\"?>{}", " \n".repeat(600)).as_bytes());
            behind.scan(b"  <Error><Code>InternalError</Code></Error>");
            assert!(behind.is_error() && behind.is_store_fault(), "{padding:?}");
        }
        let mut fine = LateErrorScan::default();
        fine.scan(b"  <?xml version=\"1.0\"?><CopyObjectResult><ETag>&lt;Error&gt;</ETag>");
        assert!(!fine.is_error() && !fine.is_store_fault());
    }

    /// B3: an error that the client's own request provoked is not the store's, though it comes behind a 200
    #[test]
    fn whose_error_it_is_says_its_code() {
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
