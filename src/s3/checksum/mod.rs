//! S3's checksums, computed while a body is streamed (I1).
//!
//! Of a request, every declared digest is verified: `Content-MD5`, `x-amz-content-sha256`, and `x-amz-checksum-*` as a header or a trailer.
//! The end of the body is withheld until all of them match, so the upstream never stores a corrupted object. Of a response, the checksum of
//! the whole object is verified; after a mismatch the response is aborted. `docs/design/checksums.md` describes the limits: composite
//! checksums, ranges and checksum types.
//!
//! Source: S3 "Checking object integrity"; xxHash specification (XXH64, XXH3) for the XXHASH algorithms.

pub(crate) mod body_digests;
pub(crate) mod expected_digest;
pub(crate) mod response_checksum;
mod running_digest;

#[cfg(test)]
mod tests;

/// The prefix of all checksum headers.
pub(crate) const CHECKSUM_PREFIX: &str = "x-amz-checksum-";

/// An algorithm of `x-amz-checksum-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksumAlgorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
    Sha512,
    Md5,
    XxHash64,
    XxHash3,
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
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
            Self::Sha512 => "x-amz-checksum-sha512",
            Self::Md5 => "x-amz-checksum-md5",
            Self::XxHash64 => "x-amz-checksum-xxhash64",
            Self::XxHash3 => "x-amz-checksum-xxhash3",
            Self::XxHash128 => "x-amz-checksum-xxhash128",
        }
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
    pub(crate) fn encoded_bytes(self) -> u64 {
        self.digest_bytes().div_ceil(3) as u64 * 4
    }
}
