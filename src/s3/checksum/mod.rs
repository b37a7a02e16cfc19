//! Checksums that S3 knows, computed as bytes pass (I1).
//!
//! Upwards every claim about a body is checked: `Content-MD5`, `x-amz-content-sha256`, `x-amz-checksum-*` as a header or a
//! trailer. The end of a body is withheld until all of them hold, so that the upstream commits nothing that the client did
//! not mean. Downwards a checksum of the whole object is checked, and a body that does not fit it breaks.
//!
//! The CRCs use the processor's carry-less multiplication, SHA-256 and SHA-1 its own instructions, XXH3 its vector instructions.
//! Each hash makes one pass over the bytes. The XXH hashes have seed 0 and S3 encodes them in big-endian order.
//!
//! A `COMPOSITE` checksum (`…-N`) is a hash over the hashes of parts. One pass over a body cannot give it, so it is never compared
//! with a body. Checksums over a range are absent because S3 sends none.
//!
//! Not checked here: whether an algorithm supports a checksum type (`FULL_OBJECT` with SHA-256, `COMPOSITE` with CRC64NVME). These
//! headers belong to CreateMultipartUpload and CompleteMultipartUpload, and do not describe the bodies of these
//! requests, so they pass to the store, which knows the upload.
//!
//! Source: S3 "Checking object integrity"; xxHash specification (XXH64, XXH3) for the XXHASH algorithms.

pub(crate) mod body_digests;
pub(crate) mod expected_digest;
pub(crate) mod response_checksum;
mod running_digest;

#[cfg(test)]
mod tests;

/// How the names of all headers about checksums begin.
pub(crate) const CHECKSUM_PREFIX: &str = "x-amz-checksum-";

/// A checksum that S3 carries in `x-amz-checksum-*`.
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
    /// All of them.
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

    /// The header, or trailing header, that carries it.
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

    /// The algorithm of a header, or trailing header, in any case.
    pub(crate) fn from_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.header().eq_ignore_ascii_case(name))
    }

    /// How many bytes it has.
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

    /// How many characters it has in base64.
    pub(crate) fn encoded_bytes(self) -> u64 {
        self.digest_bytes().div_ceil(3) as u64 * 4
    }
}
