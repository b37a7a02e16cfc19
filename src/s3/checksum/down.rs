//! The checksum of an answer: whether its body is the object that the upstream says it is.

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::s3::checksum::running::Running;
use crate::s3::checksum::{Algorithm, CHECKSUM_PREFIX, claim};

const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

/// An answer's checksum, and the hash of what has passed of its body.
pub(crate) struct Answered {
    algorithm: Algorithm,
    expected: Vec<u8>,
    running: Running,
}

impl Answered {
    /// The checksum of the whole object, where the head of an answer has one that a pass over the body can show.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        // A look at the names that are there costs less than one for each that could be.
        if !headers.keys().any(|name| name.as_str().starts_with(CHECKSUM_PREFIX)) {
            return None;
        }
        if headers.get(CHECKSUM_TYPE).is_some_and(|kind| kind != "FULL_OBJECT") {
            return None;
        }
        Algorithm::ALL.into_iter().find_map(|algorithm| {
            let value = headers.get(algorithm.header())?.to_str().ok()?;
            // A checksum of checksums ends in `-N`, which is no base64.
            let expected = claim::parse(algorithm, value)?;
            Some(Self { algorithm, expected, running: Running::new(algorithm) })
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.running.update(bytes);
    }

    /// The body has ended: the header whose checksum it does not have.
    pub(crate) fn verify(self) -> Result<(), &'static str> {
        if self.running.finish() == self.expected { Ok(()) } else { Err(self.algorithm.header()) }
    }
}
