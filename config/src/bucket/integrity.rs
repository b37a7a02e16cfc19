//! How bodies and the digests that describe them go on to a store.
//!
//! These are properties of the store behind a bucket, so they are keys of the bucket's own `s3` section: a gateway may stand before
//! stores of different generations.

use crate::form::Choice;
use crate::section::section;
use crate::walk::{Section, key};

/// How an upload that the client sends in chunks (`aws-chunked`) goes on to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFraming {
    /// chunks signed anew
    SignedChunks,
    /// chunks signed anew, and a signed trailer where the client sent one
    SignedChunksTrailer,
    /// the data as it is, its hash unsigned
    Unsigned,
    /// unsigned chunks with a trailer where the client sent one, else the data as it is
    UnsignedTrailer,
}

impl UploadFraming {
    /// Whether a trailing checksum of the client goes on as one.
    pub fn has_trailer(self) -> bool {
        matches!(self, Self::SignedChunksTrailer | Self::UnsignedTrailer)
    }
}

/// Which requests the gateway adds `Content-MD5` to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentMd5 {
    /// none: the client's header passes
    Pass,
    /// those for which S3 demands a digest, where the client sent no `Content-MD5`
    Add,
}

/// What becomes of checksums (`x-amz-checksum-*`) on their way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// they are verified and pass
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
    /// How bodies and their digests go on to a store.
    pub struct IntegrityConfig {
        /// how uploads that clients send in chunks (`aws-chunked`), too large to be read whole first, go on to the store
        ///
        /// `signed_chunks` is understood by every store; a trailing checksum is verified but not forwarded.
        /// `signed_chunks_trailer` (AWS S3, s3s) and `unsigned_trailer` (garage) pass it on, which multipart uploads with
        /// checksums need on AWS S3. `unsigned` costs no hash. Without credentials all but `unsigned_trailer` send the data
        /// as it is. Up to 64 KiB a trailing checksum is always forwarded, as a header.
        pub upload_framing: UploadFraming = key("upload_framing", FRAMINGS, UploadFraming::SignedChunks);
        /// `add` computes `Content-MD5` for documents for which older stores demand it (multi-delete, lifecycle, tagging, object lock,
        /// ACL, CORS, policy and the like) where the client sent none
        ///
        /// SDKs since January 2025 send a CRC32 instead, which older stores do not accept in its place. Documents of up to 2 MiB are read
        /// whole for it; a longer one, or one of unknown length, passes without. Objects and parts never get it.
        pub content_md5: ContentMd5 = key("content_md5", CONTENT_MD5, ContentMd5::Pass);
        /// `strip` removes checksums from requests to a store that refuses them, after the gateway has verified those of the body:
        /// `x-amz-checksum-*`, `x-amz-sdk-checksum-algorithm`, `x-amz-trailer`, and the `Checksum*` elements of
        /// CompleteMultipartUpload
        ///
        /// The store then keeps no checksum and returns none. A CompleteMultipartUpload is read whole, up to 4 MiB.
        pub checksums: Checksums = key("checksums", CHECKSUMS, Checksums::Pass);
    }
}

impl IntegrityConfig {
    /// Refuses a trailer for a store that gets no checksums.
    pub(super) fn check(&self, section: &mut Section<'_>) {
        if self.checksums == Checksums::Strip && self.upload_framing.has_trailer() {
            let checksums = section.spell("checksums");
            let hint = format!("use signed_chunks or unsigned, or set {checksums} to pass");
            let message = format!("sends trailing checksums, and {checksums} removes them");
            section.refuse("upload_framing", message, Some(hint));
        }
    }
}
