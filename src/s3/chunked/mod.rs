//! `aws-chunked` bodies: chunks of data, each with its size and, in two of the three forms, a signature that covers the
//! chunk and the signature before it; then a chunk of nothing, and in two of the forms trailing headers.
//!
//! Both directions are pure: `decode` takes whatever slices the network makes, `encode` frames for the upstream. Neither
//! copies data. A signed chunk is held until its signature is checked, so what one upload holds is bounded by the bucket's
//! `max_chunk_size`; unsigned chunks pass as they come.
//!
//! In an open bucket, whose clients have no key, signatures cannot be checked: lengths and checksums still are.
//!
//! Source: S3 "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks (Chunked
//! Upload)", and its forms with trailing headers. Deliberately absent: SigV4A's forms, and S3's rule that all chunks but
//! the last have 8 KiB: smaller ones are put together for the upstream.

pub(crate) mod decode;
pub(crate) mod encode;
mod trailer;

#[cfg(test)]
mod decode_tests;
#[cfg(test)]
mod encode_tests;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod samples;

use thiserror::Error;

use crate::s3::sigv4::PayloadHash;

/// How an `aws-chunked` body is made up, as `x-amz-content-sha256` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkLayout {
    /// Every chunk is signed.
    Signed,
    /// Every chunk is signed, and so are the headers behind the last one.
    SignedTrailer,
    /// Nothing is signed; headers follow the last chunk.
    UnsignedTrailer,
}

impl ChunkLayout {
    /// The word in `x-amz-content-sha256`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Self::SignedTrailer => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            Self::UnsignedTrailer => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        }
    }

    /// The form of a payload that comes in chunks.
    pub(crate) fn from_payload(payload: PayloadHash) -> Option<Self> {
        match payload {
            PayloadHash::SignedChunks { trailer: false } => Some(Self::Signed),
            PayloadHash::SignedChunks { trailer: true } => Some(Self::SignedTrailer),
            PayloadHash::UnsignedTrailer => Some(Self::UnsignedTrailer),
            PayloadHash::Sha256(_) | PayloadHash::Empty | PayloadHash::Unsigned => None,
        }
    }

    pub(crate) fn is_signed(self) -> bool {
        self != Self::UnsignedTrailer
    }

    pub(crate) fn has_trailer(self) -> bool {
        self != Self::Signed
    }
}

/// What is wrong with an `aws-chunked` body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ChunkFault {
    /// The framing is none.
    #[error("the aws-chunked framing is broken: {0}")]
    Framing(&'static str),
    /// A signed chunk is larger than what may be held until its signature is checked.
    #[error("a signed chunk has {bytes} bytes, the limit is {limit} (buckets.NAME.max_chunk_size)")]
    TooLarge {
        /// What it announces.
        bytes: u64,
        /// What may be held.
        limit: u64,
    },
    /// A chunk's or the trailer's signature is not what the key gives.
    #[error("the signature of {0} does not match")]
    Signature(&'static str),
    /// The chunks do not add up.
    #[error("the chunks hold {0} bytes than x-amz-decoded-content-length says")]
    Length(&'static str),
    /// The chunks are so small that their framing outgrows their data.
    #[error(
        "the chunks' framing has more than {limit} bytes, which is more than their data: send chunks of 8192 bytes or more"
    )]
    Overhead {
        /// What is taken.
        limit: u64,
    },
    /// The headers behind the last chunk are not those that were announced.
    #[error("the trailing headers are malformed: {0}")]
    Trailer(&'static str),
}
