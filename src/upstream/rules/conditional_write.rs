//! Headers that make the result of a write depend on the stored state (R3).
//!
//! Such a write is not idempotent. If it was sent and its response was lost, a second attempt finds the result of the
//! first, and the client gets an error about the object that it has just written.
//!
//! Sources: RFC 9110, 13.1; S3 API reference, PutObject, CopyObject, UploadPartCopy, DeleteObject, RenameObject and
//! "Using MFA delete"; Cloud Storage XML API, "HTTP headers"; Cloudflare R2, "S3 API compatibility".

use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName};
use tidegate_s3::sigv4::query::{decoded_name, pairs};

/// Header names in lower case.
const CONDITIONS: [&str; 27] = [
    "cf-copy-destination-if-match",
    "cf-copy-destination-if-modified-since",
    "cf-copy-destination-if-none-match",
    "cf-copy-destination-if-unmodified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    // The source of a copy may be its destination.
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-if-match-initiated-time",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    // An MFA code is valid once.
    "x-amz-mfa",
    // A rename removes its source.
    "x-amz-rename-source",
    "x-amz-rename-source-if-match",
    "x-amz-rename-source-if-modified-since",
    "x-amz-rename-source-if-none-match",
    "x-amz-rename-source-if-unmodified-since",
    // An append is valid only at the current end of the object.
    "x-amz-write-offset-bytes",
    "x-goog-copy-source-if-generation-match",
    "x-goog-copy-source-if-match",
    "x-goog-copy-source-if-metageneration-match",
    "x-goog-copy-source-if-none-match",
    "x-goog-if-generation-match",
    "x-goog-if-metageneration-match",
];

/// Whether the result of a request depends on the stored state. `query` is that of the target: stores read the
/// `x-amz-` headers of a presigned URL there.
pub(crate) fn is_conditional(method: &Method, headers: &HeaderMap, query: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
        && (headers.keys().map(HeaderName::as_str).any(is_condition)
            || pairs(query).any(|pair| is_condition(&decoded_name(pair).to_ascii_lowercase())))
}

fn is_condition(name: &str) -> bool {
    CONDITIONS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    /// R3
    #[test]
    fn reads_and_unconditional_writes_may_be_repeated() {
        assert!(CONDITIONS.is_sorted(), "the binary search needs sorted names");
        let none = HeaderMap::new();
        for name in CONDITIONS {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("1"))]);
            for method in [Method::PUT, Method::DELETE, Method::POST, Method::PATCH] {
                assert!(is_conditional(&method, &headers, ""), "{method} {name}");
            }
            assert!(
                !is_conditional(&Method::GET, &headers, "") && !is_conditional(&Method::HEAD, &headers, "")
            );
        }
        let presigned = "X-Amz-Expires=60&X-Amz-Write-Offset-Bytes=7&x-id=PutObject";
        assert!(is_conditional(&Method::PUT, &none, presigned));
        assert!(is_conditional(&Method::PUT, &none, "x-amz-if-match-siz%65=7"));
        for query in ["", "partNumber=1&uploadId=if-match", "x-amz-acl=private"] {
            assert!(!is_conditional(&Method::PUT, &none, query), "{query}");
        }
        let plain = ["if-modified-since", "x-amz-copy-source", "x-amz-meta-if-match", "x-amz-acl"];
        let plain = plain.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
        assert!(!is_conditional(&Method::PUT, &HeaderMap::from_iter(plain), ""));
    }
}
