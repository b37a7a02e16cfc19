//! The digests that a client declares for a body, and their verification (I1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::checksum::running_digest::RunningDigest;
use crate::checksum::{CHECKSUM_PREFIX, ChecksumAlgorithm};
use crate::headers::{Headers, KnownHeader, ascii_text};

const MD5_BYTES: usize = 16;

/// Why a declared digest is malformed or does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DigestFault {
    /// `Content-MD5` is malformed.
    #[error("content-md5 is not the base64 of 16 bytes")]
    Md5Malformed,
    /// A checksum header or trailer is malformed.
    #[error("{} is not the base64 of a checksum of its kind", .0.header())]
    ChecksumMalformed(ChecksumAlgorithm),
    /// There is more than one checksum; S3 accepts one.
    #[error("expecting a single x-amz-checksum- header or trailer")]
    MultipleChecksums,
    /// The body does not match `Content-MD5`.
    #[error("the content-md5 you specified did not match what we received")]
    Md5Mismatch,
    /// The body does not match the checksum.
    #[error("the {} you specified did not match the calculated checksum", .0.header())]
    ChecksumMismatch(ChecksumAlgorithm),
    /// The body does not match `x-amz-content-sha256`.
    #[error("the provided x-amz-content-sha256 does not match what was computed")]
    PayloadMismatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DigestKind {
    Md5,
    Payload,
    Checksum(ChecksumAlgorithm),
}

struct ExpectedDigest {
    kind: DigestKind,
    /// None if the trailer has it.
    expected: Option<Vec<u8>>,
    digest: RunningDigest,
}

/// All digests that the client declares for one body.
pub struct ExpectedDigests(Vec<ExpectedDigest>);

/// Decodes a checksum. Only the canonical base64 of the algorithm's length is accepted.
pub(super) fn parse(algorithm: ChecksumAlgorithm, text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().filter(|bytes| bytes.len() == algorithm.digest_bytes())
}

/// The algorithm of a checksum header; none if the header is not one.
fn algorithm_of(name: &str) -> Option<ChecksumAlgorithm> {
    Some(name).filter(|name| name.starts_with(CHECKSUM_PREFIX)).and_then(ChecksumAlgorithm::from_header)
}

impl ExpectedDigests {
    /// `payload` is the hash in `x-amz-content-sha256`, `trailer` the algorithm of the announced trailer. `has_checksum` is false if
    /// `x-amz-checksum-*` is not the checksum of this body (CompleteMultipartUpload).
    pub(crate) fn from_headers<'a>(
        headers: impl Headers<'a>,
        payload: Option<[u8; 32]>,
        trailer: Option<ChecksumAlgorithm>,
        has_checksum: bool,
    ) -> Result<Self, DigestFault> {
        let mut all = Vec::new();
        if let Some(expected) = payload {
            let expected = Some(expected.to_vec());
            all.push(ExpectedDigest { kind: DigestKind::Payload, expected, digest: RunningDigest::sha256() });
        }
        let mut digests = headers.get_all(KnownHeader::ContentMd5);
        if let Some(value) = digests.next() {
            let bytes = STANDARD.decode(value).ok().filter(|bytes| bytes.len() == MD5_BYTES);
            let only = bytes.filter(|_| digests.next().is_none());
            let expected = Some(only.ok_or(DigestFault::Md5Malformed)?);
            all.push(ExpectedDigest { kind: DigestKind::Md5, expected, digest: RunningDigest::md5() });
        }
        let before = all.len();
        // One pass over the headers costs less than a look-up for each algorithm.
        for (name, value) in headers.iter().filter(|_| has_checksum) {
            let Some(algorithm) = algorithm_of(name) else { continue };
            let bytes = ascii_text(value).and_then(|text| parse(algorithm, text));
            let expected = Some(bytes.ok_or(DigestFault::ChecksumMalformed(algorithm))?);
            let digest = RunningDigest::new(algorithm);
            all.push(ExpectedDigest { kind: DigestKind::Checksum(algorithm), expected, digest });
        }
        if let Some(algorithm) = trailer {
            let digest = RunningDigest::new(algorithm);
            all.push(ExpectedDigest { kind: DigestKind::Checksum(algorithm), expected: None, digest });
        }
        if all.len() > before + 1 {
            return Err(DigestFault::MultipleChecksums);
        }
        Ok(Self(all))
    }

    /// No digest is declared.
    pub fn empty() -> Self {
        Self(Vec::new())
    }

    /// Adds bytes of the body.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|expected| expected.digest.update(bytes));
    }

    /// Compares every digest after the end of the body. `trailer` is the value of the trailing checksum.
    pub(crate) fn verify(&mut self, trailer: Option<&str>) -> Result<(), DigestFault> {
        for ExpectedDigest { kind, expected, digest } in self.0.drain(..) {
            let expected = match (expected, kind) {
                (Some(expected), _) => expected,
                (None, DigestKind::Checksum(algorithm)) => trailer
                    .and_then(|text| parse(algorithm, text))
                    .ok_or(DigestFault::ChecksumMalformed(algorithm))?,
                (None, DigestKind::Md5) => return Err(DigestFault::Md5Mismatch),
                (None, DigestKind::Payload) => return Err(DigestFault::PayloadMismatch),
            };
            if digest.finish() != expected {
                return Err(match kind {
                    DigestKind::Md5 => DigestFault::Md5Mismatch,
                    DigestKind::Payload => DigestFault::PayloadMismatch,
                    DigestKind::Checksum(algorithm) => DigestFault::ChecksumMismatch(algorithm),
                });
            }
        }
        Ok(())
    }
}
