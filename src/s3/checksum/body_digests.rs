//! Digests of a body that the gateway has replaced (I1).
//!
//! The client's digests were verified against the client's body. The store gets the same kinds of digests of the new body, so it still
//! verifies what it receives.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::checksum::expected_digest::CONTENT_MD5;
use crate::s3::checksum::running_digest::RunningDigest;

/// Removes the digests of a body that is changed while it is streamed.
pub(crate) fn remove(headers: &mut HeaderMap) {
    headers.remove(&CONTENT_MD5);
    for algorithm in ChecksumAlgorithm::ALL {
        headers.remove(algorithm.header());
    }
}

/// Recomputes every digest in the headers, except `x-amz-content-sha256`.
pub(crate) fn recompute(headers: &mut HeaderMap, body: &[u8]) {
    let kinds = ChecksumAlgorithm::ALL
        .map(|algorithm| (HeaderName::from_static(algorithm.header()), Some(algorithm)));
    for (name, algorithm) in kinds.into_iter().chain([(CONTENT_MD5, None)]) {
        if !headers.contains_key(&name) {
            continue;
        }
        let mut digest = algorithm.map_or_else(RunningDigest::md5, RunningDigest::new);
        digest.update(body);
        if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(digest.finish())) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I1
    #[test]
    fn only_digests_in_the_headers_are_recomputed() {
        let mut headers = HeaderMap::new();
        for name in ["content-md5", "x-amz-checksum-crc32", "x-amz-meta-a"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("old"));
        }
        recompute(&mut headers, b"123456789");
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(text("content-md5"), Some("JfnnlDI7RTiF9RgfG2JNCw=="));
        assert_eq!(text("x-amz-checksum-crc32"), Some("y/Q5Jg=="));
        assert_eq!((text("x-amz-meta-a"), headers.len()), (Some("old"), 3));
    }
}
