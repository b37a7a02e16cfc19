//! S3's checksums, computed while a body is streamed (I1).
//!
//! Of a request, every declared digest is verified: `Content-MD5`, `x-amz-content-sha256`, and `x-amz-checksum-*` as a header or a trailer.
//! The end of the body is withheld until all of them match, so the upstream never stores a corrupted object. Of a response, the checksum of
//! the whole object is verified; after a mismatch the response is aborted. `docs/design/checksums.md` describes the limits: composite
//! checksums, ranges and checksum types.
//!
//! Source: S3 "Checking object integrity"; xxHash specification (XXH64, XXH3) for the XXHASH algorithms.

pub mod body_digests;
pub mod expected_digest;
pub mod response_checksum;
mod running_digest;

#[cfg(test)]
mod tests;

use crate::headers::KnownHeader;

/// The prefix of all checksum headers.
pub const CHECKSUM_PREFIX: &str = "x-amz-checksum-";

/// An algorithm of `x-amz-checksum-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    /// CRC-32, as in zlib.
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5.
    Md5,
    /// XXH64.
    XxHash64,
    /// XXH3 with 64 bits.
    XxHash3,
    /// XXH3 with 128 bits.
    XxHash128,
}

impl ChecksumAlgorithm {
    /// All algorithms.
    pub(crate) const ALL: [Self; 10] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Md5,
        Self::XxHash64,
        Self::XxHash3,
        Self::XxHash128,
    ];

    /// The header or trailer of the checksum.
    pub(crate) fn known_header(self) -> KnownHeader {
        match self {
            Self::Crc32 => KnownHeader::ChecksumCrc32,
            Self::Crc32c => KnownHeader::ChecksumCrc32c,
            Self::Crc64Nvme => KnownHeader::ChecksumCrc64Nvme,
            Self::Sha1 => KnownHeader::ChecksumSha1,
            Self::Sha256 => KnownHeader::ChecksumSha256,
            Self::Sha512 => KnownHeader::ChecksumSha512,
            Self::Md5 => KnownHeader::ChecksumMd5,
            Self::XxHash64 => KnownHeader::ChecksumXxHash64,
            Self::XxHash3 => KnownHeader::ChecksumXxHash3,
            Self::XxHash128 => KnownHeader::ChecksumXxHash128,
        }
    }

    /// The name of the header or trailer of the checksum.
    pub fn header(self) -> &'static str {
        self.known_header().as_str()
    }

    /// The algorithm of a header or trailer. The case of `name` does not matter.
    pub(crate) fn from_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.header().eq_ignore_ascii_case(name))
    }

    /// The length of the digest in bytes.
    fn digest_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme | Self::XxHash64 | Self::XxHash3 => 8,
            Self::Md5 | Self::XxHash128 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The length of the digest in base64.
    pub fn encoded_bytes(self) -> u64 {
        self.digest_bytes().div_ceil(3) as u64 * 4
    }
}
