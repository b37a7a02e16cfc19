//! An incremental digest of any of S3's algorithms.
//!
//! The CRCs use the processor's carry-less multiplication, SHA-256 and SHA-1 its own instructions, XXH3 its vector instructions. Each
//! digest makes one pass over the bytes.

use std::hash::Hasher;

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

use crate::checksum::ChecksumAlgorithm;

/// S3 uses the XXH hashes with seed 0.
const SEED: u64 = 0;

/// An unfinished digest. The large states are boxed.
pub(super) enum RunningDigest {
    Crc { digest: Box<crc_fast::Digest>, bytes: usize },
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Box<Sha512>),
    XxHash64(XxHash64),
    XxHash3(Box<XxHash3_64>),
    XxHash128(Box<XxHash3_128>),
}

impl RunningDigest {
    pub(super) fn new(algorithm: ChecksumAlgorithm) -> Self {
        let crc = |kind| Self::Crc {
            digest: Box::new(crc_fast::Digest::new(kind)),
            bytes: algorithm.digest_bytes(),
        };
        match algorithm {
            ChecksumAlgorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            ChecksumAlgorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            ChecksumAlgorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            ChecksumAlgorithm::Sha1 => Self::Sha1(Sha1::new()),
            ChecksumAlgorithm::Sha256 => Self::sha256(),
            ChecksumAlgorithm::Sha512 => Self::Sha512(Box::default()),
            ChecksumAlgorithm::Md5 => Self::md5(),
            ChecksumAlgorithm::XxHash64 => Self::XxHash64(XxHash64::with_seed(SEED)),
            ChecksumAlgorithm::XxHash3 => Self::XxHash3(Box::new(XxHash3_64::with_seed(SEED))),
            ChecksumAlgorithm::XxHash128 => Self::XxHash128(Box::new(XxHash3_128::with_seed(SEED))),
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
            Self::Sha512(digest) => digest.update(bytes),
            Self::XxHash64(digest) => digest.write(bytes),
            Self::XxHash3(digest) => digest.write(bytes),
            Self::XxHash128(digest) => digest.write(bytes),
        }
    }

    /// The digest in S3's byte order: big-endian for CRCs and XXH hashes.
    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc { digest, bytes } => digest.finalize().to_be_bytes()[8 - bytes..].to_vec(),
            Self::Md5(digest) => digest.finalize().to_vec(),
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
            Self::Sha512(digest) => digest.finalize().to_vec(),
            Self::XxHash64(digest) => digest.finish().to_be_bytes().to_vec(),
            Self::XxHash3(digest) => digest.finish().to_be_bytes().to_vec(),
            Self::XxHash128(digest) => digest.finish_128().to_be_bytes().to_vec(),
        }
    }
}
