//! Where the S3 schema has a bucket name in answers: documents by their root element, and elements of each by name.
//!
//! Elements are children of the root. Nothing else is a bucket name, however alike it looks: not `Key`, `Prefix`, `Delimiter`,
//! `Marker` or `UploadId`, and not an element of this table in another document.
//!
//! Source: S3 API reference, the responses of ListObjects (V2), ListObjectVersions, ListMultipartUploads, ListParts,
//! CreateMultipartUpload, CompleteMultipartUpload, and "Error responses". Deliberately absent: ListAllMyBucketsResult and
//! PostResponse, which the gateway writes itself; the documents that configure a bucket (policy, logging, replication), because they
//! name buckets and ARNs of the store's account, which may be other buckets than this one; `Message`, which is prose.

/// A document that has a bucket name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseDocument {
    ListObjects,
    ListVersions,
    ListUploads,
    ListParts,
    CreateUpload,
    CompleteUpload,
    Error,
}

/// What an element that names a bucket contains.
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

/// The elements of a document that name the bucket.
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
    // `Bucket` is the element of redirects, `BucketName` that of all other errors about a bucket.
    (ResponseDocument::Error, "Error", &[("BucketName", Name), ("Bucket", Name), ("Resource", Path)]),
];

impl ResponseDocument {
    /// The elements of the document with this root, if it is one of `expected`.
    pub(crate) fn elements_of(root: &[u8], expected: &[Self]) -> Option<BucketElements> {
        let is_it = |(document, name, _): &&(Self, &str, BucketElements)| {
            name.as_bytes() == root && expected.contains(document)
        };
        SCHEMA.iter().find(is_it).map(|(_, _, elements)| *elements)
    }

    /// Every document, with its root and its elements.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const ALL: [Self; 7] = [
        Self::ListObjects,
        Self::ListVersions,
        Self::ListUploads,
        Self::ListParts,
        Self::CreateUpload,
        Self::CompleteUpload,
        Self::Error,
    ];
}
