//! One hash over the bytes that pass.

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::s3::checksum::Algorithm;

/// A hash that is under way.
pub(super) enum Running {
    Crc { digest: Box<crc_fast::Digest>, bytes: usize },
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let crc =
            |kind| Self::Crc { digest: Box::new(crc_fast::Digest::new(kind)), bytes: algorithm.bytes() };
        match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::sha256(),
        }
    }

    pub(super) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(super) fn md5() -> Self {
        Self::Md5(Md5::new())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc { digest, .. } => digest.update(bytes),
            Self::Md5(digest) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    /// The hash in the byte order that S3 writes.
    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc { digest, bytes } => digest.finalize().to_be_bytes()[8 - bytes..].to_vec(),
            Self::Md5(digest) => digest.finalize().to_vec(),
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}
