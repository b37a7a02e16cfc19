//! Objects for tests.
use s3s::dto::Timestamp;

use super::record::{Attributes, Checksums, Object, ObjectInfo};

pub(super) fn object_info(etag: &str) -> ObjectInfo {
    ObjectInfo {
        etag: etag.to_owned(),
        modified: Timestamp::default(),
        attributes: Attributes::default(),
        tags: Vec::new(),
        checksums: Checksums::default(),
        is_multipart: false,
    }
}

pub(super) fn object(etag: &str) -> Object {
    Object { info: object_info(etag), segments: Vec::new() }
}
