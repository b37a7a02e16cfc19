//! What a client claims about a body, and whether it holds.

use actix_web::http::header::{HeaderMap, HeaderName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::s3::checksum::running::Running;
use crate::s3::checksum::{Algorithm, CHECKSUM_PREFIX};

pub(crate) const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const MD5_BYTES: usize = 16;

/// Why a claim is refused, or does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ClaimFault {
    /// `Content-MD5` is none.
    #[error("content-md5 is not the base64 of 16 bytes")]
    Md5Malformed,
    /// A checksum's header, or trailing header, is none.
    #[error("{} is not the base64 of a checksum of its kind", .0.header())]
    ChecksumMalformed(Algorithm),
    /// S3 takes one at a time.
    #[error("expecting a single x-amz-checksum- header or trailer")]
    ManyChecksums,
    /// The body is another.
    #[error("the content-md5 you specified did not match what we received")]
    Md5,
    /// The body is another.
    #[error("the {} you specified did not match the calculated checksum", .0.header())]
    Checksum(Algorithm),
    /// The body is another.
    #[error("the provided x-amz-content-sha256 does not match what was computed")]
    PayloadSha256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Md5,
    Payload,
    Checksum(Algorithm),
}

struct Claim {
    what: What,
    /// Comes with the trailer, where it is missing.
    expected: Option<Vec<u8>>,
    running: Running,
}

/// Everything that is claimed about one body.
pub(crate) struct Claims(Vec<Claim>);

/// A checksum as it stands in a header; only its one canonical spelling is one.
pub(super) fn parse(algorithm: Algorithm, text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().filter(|bytes| bytes.len() == algorithm.bytes())
}

/// The algorithm of a header that carries a checksum.
fn algorithm_of(name: &HeaderName) -> Option<Algorithm> {
    Some(name.as_str()).filter(|name| name.starts_with(CHECKSUM_PREFIX)).and_then(Algorithm::of_header)
}

impl Claims {
    /// `payload` is the hash in `x-amz-content-sha256`, `trailer` what is announced to come behind the body. Where
    /// `x-amz-checksum-*` means something else than this body (the end of a multipart upload), `has_checksum` is false.
    pub(crate) fn of(
        headers: &HeaderMap,
        payload: Option<[u8; 32]>,
        trailer: Option<Algorithm>,
        has_checksum: bool,
    ) -> Result<Self, ClaimFault> {
        let mut claims = Vec::new();
        if let Some(expected) = payload {
            let expected = Some(expected.to_vec());
            claims.push(Claim { what: What::Payload, expected, running: Running::sha256() });
        }
        let mut digests = headers.get_all(CONTENT_MD5);
        if let Some(value) = digests.next() {
            let bytes = STANDARD.decode(value.as_bytes()).ok().filter(|bytes| bytes.len() == MD5_BYTES);
            let only = bytes.filter(|_| digests.next().is_none());
            let expected = Some(only.ok_or(ClaimFault::Md5Malformed)?);
            claims.push(Claim { what: What::Md5, expected, running: Running::md5() });
        }
        let before = claims.len();
        // One pass over the names that are there costs less than a look-up for each algorithm.
        for (name, value) in headers.iter().filter(|_| has_checksum) {
            let Some(algorithm) = algorithm_of(name) else { continue };
            let bytes = value.to_str().ok().and_then(|text| parse(algorithm, text));
            let expected = Some(bytes.ok_or(ClaimFault::ChecksumMalformed(algorithm))?);
            let running = Running::new(algorithm);
            claims.push(Claim { what: What::Checksum(algorithm), expected, running });
        }
        if let Some(algorithm) = trailer {
            let running = Running::new(algorithm);
            claims.push(Claim { what: What::Checksum(algorithm), expected: None, running });
        }
        if claims.len() > before + 1 {
            return Err(ClaimFault::ManyChecksums);
        }
        Ok(Self(claims))
    }

    /// Nothing is claimed.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Bytes of the body pass.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|claim| claim.running.update(bytes));
    }

    /// The body has ended; says whether all of it was as claimed.
    pub(crate) fn verify(&mut self, trailer: Option<&str>) -> Result<(), ClaimFault> {
        for Claim { what, expected, running } in self.0.drain(..) {
            let expected = match (expected, what) {
                (Some(expected), _) => expected,
                (None, What::Checksum(algorithm)) => trailer
                    .and_then(|text| parse(algorithm, text))
                    .ok_or(ClaimFault::ChecksumMalformed(algorithm))?,
                (None, What::Md5) => return Err(ClaimFault::Md5),
                (None, What::Payload) => return Err(ClaimFault::PayloadSha256),
            };
            if running.finish() != expected {
                return Err(match what {
                    What::Md5 => ClaimFault::Md5,
                    What::Payload => ClaimFault::PayloadSha256,
                    What::Checksum(algorithm) => ClaimFault::Checksum(algorithm),
                });
            }
        }
        Ok(())
    }
}
