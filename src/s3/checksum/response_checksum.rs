//! The checksum of an answer: whether its body is the object that the upstream says it is.

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::s3::checksum::running_digest::RunningDigest;
use crate::s3::checksum::{CHECKSUM_PREFIX, ChecksumAlgorithm, expected_digest};

const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

/// An answer's checksum, and the hash of what has passed of its body.
pub(crate) struct ResponseChecksum {
    algorithm: ChecksumAlgorithm,
    expected: Vec<u8>,
    digest: RunningDigest,
}

impl ResponseChecksum {
    /// The checksum of the whole object, where the head of an answer has one that a pass over the body can show.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        // A look at the names that are there costs less than one for each that could be.
        if !headers.keys().any(|name| name.as_str().starts_with(CHECKSUM_PREFIX)) {
            return None;
        }
        if headers.get(CHECKSUM_TYPE).is_some_and(|kind| kind != "FULL_OBJECT") {
            return None;
        }
        ChecksumAlgorithm::ALL.into_iter().find_map(|algorithm| {
            let value = headers.get(algorithm.header())?.to_str().ok()?;
            // A checksum of checksums ends in `-N`, which is no base64.
            let expected = expected_digest::parse(algorithm, value)?;
            Some(Self { algorithm, expected, digest: RunningDigest::new(algorithm) })
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The body has ended: the header whose checksum it does not have.
    pub(crate) fn verify(self) -> Result<(), &'static str> {
        if self.digest.finish() == self.expected { Ok(()) } else { Err(self.algorithm.header()) }
    }
}
