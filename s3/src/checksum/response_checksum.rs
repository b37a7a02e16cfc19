//! Verifies the checksum of a response (I1): whether the body matches the checksum in the upstream's headers.

use crate::checksum::running_digest::RunningDigest;
use crate::checksum::{CHECKSUM_PREFIX, ChecksumAlgorithm, expected_digest};
use crate::headers::{Headers, KnownHeader};

/// The checksum of a response, and the digest of the body so far.
pub struct ResponseChecksum {
    algorithm: ChecksumAlgorithm,
    expected: Vec<u8>,
    digest: RunningDigest,
}

impl ResponseChecksum {
    /// The checksum of the whole object, if the headers of a response have one that can be computed from the body.
    pub fn from_headers<'a>(headers: impl Headers<'a>) -> Option<Self> {
        // One pass over the headers costs less than a look-up for each algorithm.
        if !headers.names().any(|name| name.starts_with(CHECKSUM_PREFIX)) {
            return None;
        }
        if headers.get(KnownHeader::ChecksumType).is_some_and(|value| value != b"FULL_OBJECT") {
            return None;
        }
        ChecksumAlgorithm::ALL.into_iter().find_map(|algorithm| {
            let value = headers.get_text(algorithm.known_header())?;
            // A composite checksum ends in `-N`, which is not base64.
            let expected = expected_digest::parse(algorithm, value)?;
            Some(Self { algorithm, expected, digest: RunningDigest::new(algorithm) })
        })
    }

    /// Adds bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// Compares the checksum after the end of the body. The error is the name of the header that does not match.
    pub fn verify(self) -> Result<(), &'static str> {
        if self.digest.finish() == self.expected { Ok(()) } else { Err(self.algorithm.header()) }
    }
}
