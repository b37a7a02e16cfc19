//! Digests of a body that the gateway has replaced (I1).
//!
//! The client's digests were verified against the client's body. The store gets the same kinds of digests of the new body, so it still
//! verifies what it receives.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checksum::ChecksumAlgorithm;
use crate::checksum::running_digest::RunningDigest;
use crate::headers::{Headers, HeadersMut, KnownHeader};

/// Removes the digests of a body that is changed while it is streamed.
pub fn remove(headers: &mut impl HeadersMut) {
    headers.remove(KnownHeader::ContentMd5);
    for algorithm in ChecksumAlgorithm::ALL {
        headers.remove(algorithm.known_header());
    }
}

/// Recomputes every digest in the headers, except `x-amz-content-sha256`.
pub fn recompute(headers: &mut impl HeadersMut, body: &[u8]) {
    let kinds = ChecksumAlgorithm::ALL.map(|algorithm| (algorithm.known_header(), Some(algorithm)));
    for (header, algorithm) in kinds.into_iter().chain([(KnownHeader::ContentMd5, None)]) {
        if !headers.view().contains(header) {
            continue;
        }
        let mut digest = algorithm.map_or_else(RunningDigest::md5, RunningDigest::new);
        digest.update(body);
        headers.set(header, &STANDARD.encode(digest.finish()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_request::HeaderList;

    /// I1
    #[test]
    fn only_digests_in_the_headers_are_recomputed() {
        let names = ["content-md5", "x-amz-checksum-crc32", "x-amz-meta-a"];
        let mut headers = HeaderList::new(names.map(|name| (name, "old")));
        recompute(&mut headers, b"123456789");
        let mut lines = headers.lines();
        lines.sort();
        assert_eq!(
            lines,
            ["content-md5: JfnnlDI7RTiF9RgfG2JNCw==", "x-amz-checksum-crc32: y/Q5Jg==", "x-amz-meta-a: old"]
        );
    }
}
