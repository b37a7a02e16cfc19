//! A body on its way up: what its head says of it, and the pipeline that holds it to that.
//!
//! ```text
//! client → aws-chunked taken apart → claims computed → end withheld → framed anew → upstream
//! ```
//!
//! Nothing of the body's end travels before everything holds: lengths, chunk signatures, trailer, and every claim. Where
//! the body is framed for the upstream that end is the chunk of nothing; else it is the piece with the last byte, or the end
//! of a chunked transfer. What the upstream has by then is a body cut short, of which it keeps nothing.
//!
//! All of it is pure: bytes in, bytes out. Connections are `crate::upstream`'s.

#[cfg(feature = "bench")]
pub mod bench;
pub(crate) mod body_rewrite;
pub(crate) mod completion;
pub(crate) mod content_md5;
pub(crate) mod declared_body;
pub(crate) mod framing_headers;
pub(crate) mod pipeline;

#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::s3::checksum::expected_digest::DigestFault;
use crate::s3::chunked::ChunkFault;

/// Why a body, or what its head says of it, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum UploadFault {
    /// In the chunks.
    #[error(transparent)]
    Chunk(#[from] ChunkFault),
    /// In what is claimed about the body.
    #[error(transparent)]
    Digest(#[from] DigestFault),
    /// In the form that a file came in.
    #[error("the body of your POST request is not well-formed multipart/form-data: {0}")]
    Form(&'static str),
    /// The payload hash is no hash and no word.
    #[error(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- form, or a sha256 in hexadecimal digits"
    )]
    PayloadHash,
    /// The chunks are signed with SigV4A.
    #[error(
        "chunks signed with SigV4A (STREAMING-AWS4-ECDSA-P256-SHA256) are not supported; sign with AWS4-HMAC-SHA256"
    )]
    SigV4a,
    /// An aws-chunked body does not say how long its data is.
    #[error("an aws-chunked body needs x-amz-decoded-content-length")]
    LengthMissing,
    /// It says so in no number.
    #[error("x-amz-decoded-content-length is no number of bytes")]
    LengthMalformed,
    /// A trailer comes, but not which.
    #[error("a trailer needs x-amz-trailer to announce it")]
    TrailerMissing,
    /// A trailer is announced in a form that has none, or one that is no checksum.
    #[error("x-amz-trailer must name one x-amz-checksum- header, in a form that has a trailer")]
    TrailerUnsupported,
    /// An SDK's algorithm is named, but no checksum of its kind comes.
    #[error(
        "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found"
    )]
    ChecksumMissing,
    /// An SDK's algorithm is named, and the checksum that comes is of another.
    #[error(
        "value for x-amz-sdk-checksum-algorithm header is invalid: the x-amz-checksum-* or x-amz-trailer is of another algorithm"
    )]
    ChecksumAlgorithmMismatch,
    /// A document that the gateway must change has no length ahead.
    #[error(
        "a CompleteMultipartUpload needs a content-length here: the store behind this bucket gets no checksums, so its document is read whole"
    )]
    DocumentLengthMissing,
    /// A document that the gateway must change is too long to be held.
    #[error(
        "a CompleteMultipartUpload may have {limit} bytes here: the store behind this bucket gets no checksums, so its document is read whole"
    )]
    DocumentTooLong {
        /// What may be held, in bytes.
        limit: u64,
    },
}

/// What kind of refusal a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// The request is bad.
    Bad,
    /// The client is not who it says.
    Denied,
    /// A length is missing.
    LengthRequired,
    /// Something is too large.
    TooLarge,
    /// The form is not supported.
    Unsupported,
}

impl UploadFault {
    /// What kind it is, S3's code for it, and the reason's word.
    pub(crate) fn refusal(self) -> (RefusalKind, &'static str, &'static str) {
        use RefusalKind::{Bad, Denied, LengthRequired, TooLarge, Unsupported};
        match self {
            Self::Chunk(ChunkFault::Framing(_)) => (Bad, "IncompleteBody", "chunk_framing"),
            Self::Chunk(ChunkFault::TooLarge { .. }) => (TooLarge, "EntityTooLarge", "chunk_too_large"),
            Self::Chunk(ChunkFault::Signature(_)) => (Denied, "SignatureDoesNotMatch", "chunk_signature"),
            Self::Chunk(ChunkFault::Length(_)) => (Bad, "IncompleteBody", "decoded_length"),
            Self::Chunk(ChunkFault::Overhead { .. }) => (Bad, "InvalidChunkSizeError", "chunk_overhead"),
            Self::Chunk(ChunkFault::Trailer(_)) => (Bad, "MalformedTrailerError", "trailer_malformed"),
            Self::Digest(DigestFault::Md5Malformed) => (Bad, "InvalidDigest", "md5_malformed"),
            Self::Digest(DigestFault::ChecksumMalformed(_) | DigestFault::MultipleChecksums) => {
                (Bad, "InvalidRequest", "checksum_malformed")
            }
            Self::Digest(DigestFault::Md5Mismatch) => (Bad, "BadDigest", "md5_mismatch"),
            Self::Digest(DigestFault::ChecksumMismatch(_)) => (Bad, "BadDigest", "checksum_mismatch"),
            Self::Digest(DigestFault::PayloadMismatch) => {
                (Bad, "XAmzContentSHA256Mismatch", "sha256_mismatch")
            }
            Self::Form(_) => (Bad, "MalformedPOSTRequest", "form_malformed"),
            Self::PayloadHash => (Bad, "InvalidArgument", "payload_hash"),
            Self::SigV4a => (Unsupported, "NotImplemented", "sigv4a"),
            Self::LengthMissing => (LengthRequired, "MissingContentLength", "decoded_length"),
            Self::LengthMalformed => (Bad, "InvalidArgument", "decoded_length"),
            Self::TrailerMissing => (Bad, "MalformedTrailerError", "trailer_malformed"),
            Self::TrailerUnsupported => (Bad, "InvalidRequest", "trailer_unsupported"),
            Self::ChecksumMissing => (Bad, "InvalidRequest", "checksum_malformed"),
            Self::ChecksumAlgorithmMismatch => (Bad, "InvalidRequest", "checksum_algorithm"),
            Self::DocumentLengthMissing => (LengthRequired, "MissingContentLength", "document_length"),
            Self::DocumentTooLong { .. } => (TooLarge, "EntityTooLarge", "document_length"),
        }
    }
}
