//! Checksums that S3 knows, computed as bytes pass (I1).
//!
//! Upwards every claim about a body is checked: `Content-MD5`, `x-amz-content-sha256`, `x-amz-checksum-*` as a header or a
//! trailer. The end of a body is withheld until all of them hold, so that the upstream commits nothing that the client did
//! not mean. Downwards a checksum of the whole object is checked, and a body that does not fit it breaks.
//!
//! The CRCs use the processor's carry-less multiplication, SHA-256 and SHA-1 its own instructions; each runs over the bytes
//! once. Deliberately absent: checksums of checksums (`…-N` of multipart objects), for no single pass over an answer gives
//! them, and checksums over a range, which S3 does not send.
//!
//! Source: S3 "Checking object integrity".

pub(crate) mod claim;
pub(crate) mod down;
pub(crate) mod renewed;
mod running;

#[cfg(test)]
mod tests;

/// A checksum that S3 carries in `x-amz-checksum-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// The header, or trailing header, that carries it.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// How many bytes it has.
    fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// How many characters it has in base64.
    pub(crate) fn text_bytes(self) -> u64 {
        self.bytes().div_ceil(3) as u64 * 4
    }
}
