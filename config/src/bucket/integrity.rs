//! Bodies and their digests towards a store.
//!
//! These keys depend on the store, so they are keys of a bucket's `s3` section: one gateway may serve stores of different
//! generations.

use crate::schema::{Section, key};
use crate::section::section;
use crate::value_type::Choice;

/// Encoding towards the store of an upload that the client sends in chunks (`aws-chunked`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFraming {
    /// chunks with new signatures
    SignedChunks,
    /// chunks with new signatures, and a signed trailer if the client sent one
    SignedChunksTrailer,
    /// the data without chunks and without a signed hash
    Unsigned,
    /// unsigned chunks with a trailer if the client sent one, else the data without chunks
    UnsignedTrailer,
}

impl UploadFraming {
    /// Whether a trailing checksum of the client is forwarded as a trailer.
    pub fn has_trailer(self) -> bool {
        matches!(self, Self::SignedChunksTrailer | Self::UnsignedTrailer)
    }
}

/// Requests to which the gateway adds `Content-MD5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentMd5 {
    /// none: the client's header is forwarded
    Pass,
    /// those for which S3 requires a digest, if the client sent no `Content-MD5`
    Add,
}

/// Handling of checksums (`x-amz-checksum-*`) towards the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// they are verified and forwarded
    Pass,
    /// they are verified and removed
    Strip,
}

const FRAMINGS: Choice<UploadFraming> = Choice(&[
    ("signed_chunks", UploadFraming::SignedChunks),
    ("signed_chunks_trailer", UploadFraming::SignedChunksTrailer),
    ("unsigned", UploadFraming::Unsigned),
    ("unsigned_trailer", UploadFraming::UnsignedTrailer),
]);
const CONTENT_MD5: Choice<ContentMd5> = Choice(&[("pass", ContentMd5::Pass), ("add", ContentMd5::Add)]);
const CHECKSUMS: Choice<Checksums> = Choice(&[("pass", Checksums::Pass), ("strip", Checksums::Strip)]);

section! {
    /// Bodies and their digests towards a store.
    pub struct IntegrityConfig {
        /// encoding of chunked uploads (`aws-chunked`) towards the store
        ///
        /// It applies to uploads that are too large to be buffered. `signed_chunks` works with every store; a trailing checksum is
        /// verified but not forwarded. `signed_chunks_trailer` (AWS S3, s3s) and `unsigned_trailer` (garage) forward it, which
        /// multipart uploads with checksums need on AWS S3. `unsigned` computes no hash. Without credentials all modes except
        /// `unsigned_trailer` send the data without chunks. Up to 64 KiB a trailing checksum is always forwarded, as a header.
        pub upload_framing: UploadFraming = key("upload_framing", FRAMINGS, UploadFraming::SignedChunks);
        /// `add` computes `Content-MD5` for documents for which older stores require it
        ///
        /// Such documents are those of multi-delete, lifecycle, tagging, object lock, ACL, CORS, policy and the like. SDKs since
        /// January 2025 send a CRC32 instead, which older stores do not accept. `add` has an effect if the client sent no
        /// `Content-MD5`. Documents of up to 2 MiB are buffered for it; a longer one, or one of unknown length, is forwarded without.
        /// Objects and parts never get it.
        pub content_md5: ContentMd5 = key("content_md5", CONTENT_MD5, ContentMd5::Pass);
        /// `strip` verifies the checksums of a body and removes them, for stores that reject them
        ///
        /// It removes `x-amz-checksum-*`, `x-amz-sdk-checksum-algorithm`, `x-amz-trailer`, and the `Checksum*` elements of
        /// CompleteMultipartUpload. The store then stores no checksum and returns none. A CompleteMultipartUpload is buffered, up to
        /// 4 MiB.
        pub checksums: Checksums = key("checksums", CHECKSUMS, Checksums::Pass);
    }
}

impl IntegrityConfig {
    /// Rejects a trailer for a store that gets no checksums.
    pub(super) fn check(&self, section: &mut Section<'_>) {
        if self.checksums == Checksums::Strip && self.upload_framing.has_trailer() {
            let checksums = section.full_key("checksums");
            let hint = format!("use signed_chunks or unsigned, or set {checksums} to pass");
            let message = format!("sends trailing checksums, and {checksums} removes them");
            section.refuse("upload_framing", message, Some(hint));
        }
    }
}
