//! The body of an upload: what the head declares about it, and the pipeline that verifies it (A1, I1).
//!
//! ```text
//! client → decode aws-chunked → compute digests → withhold the end → encode aws-chunked → upstream
//! ```
//!
//! The end of a body is sent only after everything is verified: lengths, chunk signatures, trailer and every declared digest. In a framed
//! body the end is the final chunk of size 0; otherwise it is the piece with the last byte, or the end of a chunked transfer. If the
//! verification fails, the upstream has an incomplete body, which it discards.
//!
//! These modules are pure: bytes in, bytes out. The gateway owns the connections.

#[cfg(feature = "bench")]
pub mod bench;
pub mod body_rewrite;
pub mod completion;
pub mod content_md5;
pub mod declared_body;
pub mod framing_headers;
pub mod pipeline;

#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::checksum::expected_digest::DigestFault;
use crate::chunked::ChunkFault;

/// Why a body, or its declaration in the head, is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UploadFault {
    /// A fault in the `aws-chunked` framing.
    #[error(transparent)]
    Chunk(#[from] ChunkFault),
    /// A declared digest is malformed or does not match.
    #[error(transparent)]
    Digest(#[from] DigestFault),
    /// The form that contains the file is malformed.
    #[error("the body of your POST request is not well-formed multipart/form-data: {0}")]
    Form(&'static str),
    /// `x-amz-content-sha256` is neither a hash nor a known keyword.
    #[error(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- form, or a sha256 in hexadecimal digits"
    )]
    PayloadHash,
    /// The chunks are signed with SigV4A.
    #[error(
        "chunks signed with SigV4A (STREAMING-AWS4-ECDSA-P256-SHA256) are not supported; sign with AWS4-HMAC-SHA256"
    )]
    SigV4a,
    /// An aws-chunked body does not declare the length of its data.
    #[error("an aws-chunked body needs x-amz-decoded-content-length")]
    LengthMissing,
    /// The declared length is malformed or too large.
    #[error("x-amz-decoded-content-length is not a valid number of bytes")]
    LengthMalformed,
    /// The chunk layout has a trailer, and `x-amz-trailer` is missing.
    #[error("a body with a trailer needs x-amz-trailer to announce it")]
    TrailerMissing,
    /// The announced trailer is not a checksum, or the chunk layout has no trailer.
    #[error(
        "x-amz-trailer must name one x-amz-checksum- header, and x-amz-content-sha256 a layout with a trailer"
    )]
    TrailerUnsupported,
    /// `x-amz-sdk-checksum-algorithm` is present, and its checksum is missing.
    #[error(
        "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found"
    )]
    ChecksumMissing,
    /// `x-amz-sdk-checksum-algorithm` is present, and the checksum is of another algorithm.
    #[error(
        "value for x-amz-sdk-checksum-algorithm header is invalid: the x-amz-checksum-* or x-amz-trailer is of another algorithm"
    )]
    ChecksumAlgorithmMismatch,
    /// A document that the gateway must change has no declared length.
    #[error(
        "CompleteMultipartUpload to this bucket needs a content-length: its store gets no checksums, so the gateway buffers the document"
    )]
    DocumentLengthMissing,
    /// A document that the gateway must change is too long to be buffered.
    #[error(
        "CompleteMultipartUpload to this bucket may have at most {limit} bytes: its store gets no checksums, so the gateway buffers the document"
    )]
    DocumentTooLong {
        /// The limit in bytes.
        limit: u64,
    },
}

/// The kind of a rejection, which selects the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request is malformed or does not match its digests.
    Bad,
    /// A signature is wrong.
    Denied,
    /// A length is missing.
    LengthRequired,
    /// The body is too large.
    TooLarge,
    /// The signature algorithm is not supported.
    Unsupported,
}

impl UploadFault {
    /// The kind, S3's error code and the reason.
    pub fn refusal(self) -> (RefusalKind, &'static str, &'static str) {
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
