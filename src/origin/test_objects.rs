//! Objects for tests.
use s3s::dto::Timestamp;

use super::record::{Attributes, Checksums, Facts, Object};

pub(super) fn facts(etag: &str) -> Facts {
    Facts {
        etag: etag.to_owned(),
        modified: Timestamp::default(),
        attributes: Attributes::default(),
        tags: Vec::new(),
        checksums: Checksums::default(),
        is_multipart: false,
    }
}

pub(super) fn object(etag: &str) -> Object {
    Object { facts: facts(etag), segments: Vec::new() }
}
