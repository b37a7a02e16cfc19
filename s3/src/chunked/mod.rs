//! `aws-chunked` bodies (A1): chunks of data, a final chunk of size 0, and in two of the three layouts trailing headers. In two layouts
//! each chunk has a signature that covers the chunk and the previous signature.
//!
//! Both directions are pure and do not copy data: `decode` accepts input in slices of any size, `encode` produces the upstream's framing. A
//! signed chunk is buffered until its signature is verified, so the bucket's `max_chunk_size` bounds the memory of one upload. Unsigned
//! chunks are not buffered. In an open bucket clients have no keys: signatures are not verified, but lengths and checksums are.
//!
//! SigV4A's layouts are not supported. S3 requires at least 8 KiB in all chunks except the last one; the gateway also accepts smaller ones
//! and merges them for the upstream.
//!
//! Source: S3 "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks (Chunked Upload)", and its
//! variants with trailing headers.

pub mod decode;
pub mod encode;
mod signature_text;
mod trailer;

#[cfg(test)]
mod decode_tests;
#[cfg(test)]
mod encode_tests;
#[cfg(any(test, feature = "fuzzing"))]
pub mod samples;

use thiserror::Error;

use crate::sigv4::PayloadHash;

/// The layout of an `aws-chunked` body, from `x-amz-content-sha256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkLayout {
    /// Every chunk is signed.
    Signed,
    /// Every chunk and the trailing headers are signed.
    SignedTrailer,
    /// Nothing is signed. Trailing headers follow the last chunk.
    UnsignedTrailer,
}

impl ChunkLayout {
    /// The value of `x-amz-content-sha256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Self::SignedTrailer => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            Self::UnsignedTrailer => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        }
    }

    /// The layout of a payload; none if it is not `aws-chunked`.
    pub(crate) fn from_payload(payload: PayloadHash) -> Option<Self> {
        match payload {
            PayloadHash::SignedChunks { trailer: false } => Some(Self::Signed),
            PayloadHash::SignedChunks { trailer: true } => Some(Self::SignedTrailer),
            PayloadHash::UnsignedTrailer => Some(Self::UnsignedTrailer),
            PayloadHash::Sha256(_) | PayloadHash::Empty | PayloadHash::Unsigned => None,
        }
    }

    /// Whether each chunk has a signature.
    pub fn is_signed(self) -> bool {
        self != Self::UnsignedTrailer
    }

    /// Whether trailing headers follow the last chunk.
    pub fn has_trailer(self) -> bool {
        self != Self::Signed
    }
}

/// Why an `aws-chunked` body is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChunkFault {
    /// The framing is malformed.
    #[error("the aws-chunked framing is malformed: {0}")]
    Framing(&'static str),
    /// A signed chunk is larger than the limit on buffered chunks.
    #[error("a signed chunk has {bytes} bytes, the limit is {limit} (buckets.NAME.max_chunk_size)")]
    TooLarge {
        /// The declared size of the chunk.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The signature of a chunk or of the trailer does not match.
    #[error("the signature of {0} does not match")]
    Signature(&'static str),
    /// The chunks have another length than declared; `more` or `fewer`.
    #[error("the chunks have {0} bytes than x-amz-decoded-content-length declares")]
    Length(&'static str),
    /// The chunks are so small that their framing is longer than their data.
    #[error(
        "the framing of the chunks has more than {limit} bytes, which is more than their data; send chunks of 8192 bytes or more"
    )]
    Overhead {
        /// The limit in bytes.
        limit: u64,
    },
    /// The trailing headers are malformed or not those that were announced.
    #[error("the trailing headers are malformed: {0}")]
    Trailer(&'static str),
}
