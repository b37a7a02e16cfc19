//! The elements of S3 responses that contain a bucket name, by the root element of the document (V5).
//!
//! The elements are children of the root. Nothing else is a bucket name, even if its text is equal: not `Key`, `Prefix`, `Delimiter`,
//! `Marker` or `UploadId`, and not an element of this table in another document.
//!
//! The table does not have ListAllMyBucketsResult and PostResponse, which the gateway writes itself; the documents that configure a bucket
//! (policy, logging, replication), because their buckets and ARNs are of the store's account and may be other buckets; and `Message`, which
//! is free text.
//!
//! Source: S3 API reference, the responses of ListObjects (V2), ListObjectVersions, ListMultipartUploads, ListParts, CreateMultipartUpload,
//! CompleteMultipartUpload, and "Error responses".

/// A document with a bucket name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseDocument {
    /// ListObjects and ListObjectsV2.
    ListObjects,
    /// ListObjectVersions.
    ListVersions,
    /// ListMultipartUploads.
    ListUploads,
    /// ListParts.
    ListParts,
    /// CreateMultipartUpload.
    CreateUpload,
    /// CompleteMultipartUpload.
    CompleteUpload,
    /// An error document.
    Error,
}

/// The content of an element with a bucket name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BucketElement {
    /// The name.
    Name,
    /// The path of the request, with the bucket as its first segment.
    Path,
    /// The URL of an object.
    Url,
}

use BucketElement::{Name, Path, Url};

/// The elements of a document with the bucket's name.
pub(crate) type BucketElements = &'static [(&'static str, BucketElement)];

/// Each document with its root and its elements.
const SCHEMA: [(ResponseDocument, &str, BucketElements); 7] = [
    (ResponseDocument::ListObjects, "ListBucketResult", &[("Name", Name)]),
    (ResponseDocument::ListVersions, "ListVersionsResult", &[("Name", Name)]),
    (ResponseDocument::ListUploads, "ListMultipartUploadsResult", &[("Bucket", Name)]),
    (ResponseDocument::ListParts, "ListPartsResult", &[("Bucket", Name)]),
    (ResponseDocument::CreateUpload, "InitiateMultipartUploadResult", &[("Bucket", Name)]),
    (
        ResponseDocument::CompleteUpload,
        "CompleteMultipartUploadResult",
        &[("Bucket", Name), ("Location", Url)],
    ),
    // Redirects have `Bucket`, all other errors about a bucket have `BucketName`.
    (ResponseDocument::Error, "Error", &[("BucketName", Name), ("Bucket", Name), ("Resource", Path)]),
];

impl ResponseDocument {
    /// The elements of the document with this root, if it is one of `expected`.
    pub(crate) fn elements_of(root: &[u8], expected: &[Self]) -> Option<BucketElements> {
        let matches = |(document, name, _): &&(Self, &str, BucketElements)| {
            name.as_bytes() == root && expected.contains(document)
        };
        SCHEMA.iter().find(matches).map(|(_, _, elements)| *elements)
    }

    /// Every document.
    #[cfg(any(test, feature = "fuzzing"))]
    pub const ALL: [Self; 7] = [
        Self::ListObjects,
        Self::ListVersions,
        Self::ListUploads,
        Self::ListParts,
        Self::CreateUpload,
        Self::CompleteUpload,
        Self::Error,
    ];
}
