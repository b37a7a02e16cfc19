//! The table of S3's operations (V11): method, sub-resource and parameters of each, and the access that it needs.
//!
//! An operation is identified by its method, its subject (bucket or object) and at most one sub-resource. The table is closed: a request
//! that matches no row needs `configure`, so an extension of a store cannot turn a read into another operation. Names are
//! case-sensitive, as in S3. `events` is not a parameter of listings: MinIO answers it with an endless stream of notifications, even in a
//! listing.
//!
//! Object locks and ACLs need `configure`: a retention or legal hold determines who may delete, and an ACL who may read.
//!
//! Sources: Amazon S3 API Reference, "Actions". The listing parameters of RGW and MinIO are from their documentation, and from what their
//! servers read and their clients send.

use tidegate_config::Access;

/// What an operation is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceKind {
    Bucket,
    Object,
}

/// The keys that an operation touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyScope {
    /// The key of the path.
    Key,
    /// The keys below the parameter `prefix`.
    Prefix,
    /// The keys that the body lists.
    Body,
    /// The bucket, or keys that neither path nor query names.
    Bucket,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// S3's name for it.
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) subject: ResourceKind,
    pub(super) sub_resource: Option<&'static str>,
    /// The other parameters of the operation.
    pub(super) parameters: &'static [&'static str],
    pub(super) access: Access,
    pub(super) scope: KeyScope,
}

/// Every parameter that selects an operation at S3, RGW or MinIO. A request may have only one of them.
pub(super) const SUB_RESOURCES: [&str; 42] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "replication-metrics",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "syncing",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "usage",
    "versioning",
    "versions",
    "website",
];

/// The sub-resource that names an upload. Stores read an empty one as absent (RGW) or as an ID (MinIO).
pub(super) const UPLOAD_ID: &str = "uploadId";

/// Parameters that every operation has. AWS SDKs add `x-id` for their own logs.
pub(super) const COMMON_PARAMETERS: [&str; 1] = ["x-id"];

/// The parameters of all listings. A store ignores the parameters of the other listings.
const LISTING: &[&str] = &[
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "encoding-type",
    "continuation-token",
    "start-after",
    "fetch-owner",
    "key-marker",
    "version-id-marker",
    "upload-id-marker",
    "max-uploads",
    // RGW: any order, JSON, and the entries of a listing of versions in one element
    "allow-unordered",
    "format",
    "objs-container",
    // MinIO and its clients: each key's metadata and tags, any order
    "metadata",
    "unsorted",
];

/// The parameters of reading an object.
const READING: &[&str] = &[
    "versionId",
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];

const VERSION: &[&str] = &["versionId"];

const fn object(
    name: &'static str,
    method: &'static str,
    sub_resource: Option<&'static str>,
    parameters: &'static [&'static str],
    access: Access,
) -> Row {
    Row {
        name,
        method,
        subject: ResourceKind::Object,
        sub_resource,
        parameters,
        access,
        scope: KeyScope::Key,
    }
}

const fn bucket(
    name: &'static str,
    method: &'static str,
    sub_resource: Option<&'static str>,
    parameters: &'static [&'static str],
    (access, scope): (Access, KeyScope),
) -> Row {
    Row { name, method, subject: ResourceKind::Bucket, sub_resource, parameters, access, scope }
}

/// The operations. Operations that configure a bucket have no row: every request without a row needs `configure`.
pub(super) static ROWS: [Row; 34] = [
    object("GetObject", "GET", None, READING, Access::Read),
    object("HeadObject", "HEAD", None, READING, Access::Read),
    // Also CopyObject: a header names its source.
    object("PutObject", "PUT", None, &[], Access::Write),
    object("DeleteObject", "DELETE", None, VERSION, Access::Delete),
    object("UploadPart", "PUT", Some(UPLOAD_ID), &["partNumber"], Access::Write),
    object("CreateMultipartUpload", "POST", Some("uploads"), &[], Access::Write),
    object("CompleteMultipartUpload", "POST", Some(UPLOAD_ID), &[], Access::Write),
    object("AbortMultipartUpload", "DELETE", Some(UPLOAD_ID), &[], Access::Write),
    object(
        "ListParts",
        "GET",
        Some(UPLOAD_ID),
        &["max-parts", "part-number-marker", "encoding-type"],
        Access::Read,
    ),
    object("GetObjectAttributes", "GET", Some("attributes"), VERSION, Access::Read),
    object("GetObjectTagging", "GET", Some("tagging"), VERSION, Access::Read),
    object("PutObjectTagging", "PUT", Some("tagging"), VERSION, Access::Write),
    object("DeleteObjectTagging", "DELETE", Some("tagging"), VERSION, Access::Delete),
    object("GetObjectAcl", "GET", Some("acl"), VERSION, Access::Read),
    object("PutObjectAcl", "PUT", Some("acl"), VERSION, Access::Configure),
    object("GetObjectRetention", "GET", Some("retention"), VERSION, Access::Read),
    object("PutObjectRetention", "PUT", Some("retention"), VERSION, Access::Configure),
    object("GetObjectLegalHold", "GET", Some("legal-hold"), VERSION, Access::Read),
    object("PutObjectLegalHold", "PUT", Some("legal-hold"), VERSION, Access::Configure),
    object("GetObjectTorrent", "GET", Some("torrent"), &[], Access::Read),
    object("RestoreObject", "POST", Some("restore"), VERSION, Access::Write),
    object("SelectObjectContent", "POST", Some("select"), &["select-type"], Access::Read),
    // RGW's extension.
    object("AppendObject", "PUT", Some("append"), &["position"], Access::Write),
    // A header names the source, which is another key.
    Row {
        scope: KeyScope::Bucket,
        ..object("RenameObject", "PUT", Some("renameObject"), &[], Access::Configure)
    },
    bucket("ListObjects", "GET", None, LISTING, (Access::List, KeyScope::Prefix)),
    bucket("ListObjectVersions", "GET", Some("versions"), LISTING, (Access::List, KeyScope::Prefix)),
    bucket("ListMultipartUploads", "GET", Some("uploads"), LISTING, (Access::List, KeyScope::Prefix)),
    // RGW answers `read-stats` with the bucket's totals.
    bucket("HeadBucket", "HEAD", None, &["read-stats"], (Access::List, KeyScope::Bucket)),
    // Clients send these before they start to use a bucket.
    bucket("GetBucketLocation", "GET", Some("location"), &[], (Access::List, KeyScope::Bucket)),
    bucket("GetBucketVersioning", "GET", Some("versioning"), &[], (Access::List, KeyScope::Bucket)),
    bucket("DeleteObjects", "POST", Some("delete"), &[], (Access::Delete, KeyScope::Body)),
    bucket("PostObject", "POST", None, &[], (Access::Write, KeyScope::Bucket)),
    bucket("CreateBucket", "PUT", None, &[], (Access::Configure, KeyScope::Bucket)),
    bucket("DeleteBucket", "DELETE", None, &[], (Access::Configure, KeyScope::Bucket)),
];

/// The row of an operation.
pub(super) fn find(method: &str, subject: ResourceKind, sub_resource: Option<&str>) -> Option<&'static Row> {
    static TABLE: [Row; ROWS.len()] = ROWS;
    TABLE
        .iter()
        .find(|row| row.method == method && row.subject == subject && row.sub_resource == sub_resource)
}

/// The static name of a sub-resource; none if `name` is not one.
pub(super) fn sub_resource(name: &str) -> Option<&'static str> {
    SUB_RESOURCES.iter().copied().find(|known| *known == name)
}
