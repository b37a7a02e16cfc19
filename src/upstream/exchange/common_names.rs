//! The names of common response headers, without an allocation for each.
//!
//! `HeaderName` has the standard names built in and allocates memory for any other. Stores send the same few of those in each response.

use std::sync::LazyLock;

use actix_web::http::header::HeaderName;

const NAMES: [&str; 24] = [
    "keep-alive",
    "x-amz-bucket-region",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-type",
    "x-amz-delete-marker",
    "x-amz-expiration",
    "x-amz-id-2",
    "x-amz-mp-parts-count",
    "x-amz-object-size",
    "x-amz-replication-status",
    "x-amz-request-id",
    "x-amz-restore",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-storage-class",
    "x-amz-tagging-count",
    "x-amz-version-id",
    "x-minio-deployment-id",
    "x-request-id",
    "x-rgw-object-type",
];

static HEADER_NAMES: LazyLock<[HeaderName; NAMES.len()]> =
    LazyLock::new(|| NAMES.map(HeaderName::from_static));

/// The name of a header. None if it is not a token.
pub(super) fn header_name(name: &[u8]) -> Option<HeaderName> {
    if matches!(name.first(), Some(b'x' | b'X' | b'k' | b'K'))
        && let Some(at) = NAMES.iter().position(|common| common.as_bytes().eq_ignore_ascii_case(name))
    {
        return Some(HEADER_NAMES[at].clone());
    }
    HeaderName::from_bytes(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_those_of_the_parser() {
        for name in NAMES {
            let mixed = name.replace('x', "X").replace('d', "D");
            assert_eq!(header_name(mixed.as_bytes()), HeaderName::from_bytes(name.as_bytes()).ok());
        }
        assert_eq!(header_name(b"Content-Type").unwrap(), "content-type");
        assert_eq!(header_name(b"x-other").unwrap(), "x-other");
        assert_eq!((header_name(b"x y"), header_name(b""), header_name(b"x\0")), (None, None, None));
    }
}
