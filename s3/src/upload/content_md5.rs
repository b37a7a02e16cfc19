//! Adds a `Content-MD5` that the gateway computes (`content_md5 = "add"`).
//!
//! S3 requires a digest of the documents that configure buckets and objects, and of multi-deletes. Until 2022 this digest was
//! `Content-MD5`. Stores with the older rule do not accept the `x-amz-checksum-*` that SDKs send since January 2025 in its place. The list
//! below is closed, so an object upload is never hashed a second time.
//!
//! Source: S3 API Reference and the S3 service model of the SDKs, operations with a required request checksum.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::headers::{Headers, HeadersMut, KnownHeader};
use crate::sigv4::query::{decoded_name, pairs};

/// The sub-resources of PUT requests that require a digest.
const PUT: [&str; 17] = [
    "acl",
    "cors",
    "encryption",
    "legal-hold",
    "lifecycle",
    "logging",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "retention",
    "tagging",
    "versioning",
    "website",
];

/// The sub-resource of the only POST request that requires a digest: a multi-delete.
const POST: [&str; 1] = ["delete"];

/// Whether S3 requires a digest of the request's body.
pub(crate) fn is_required(method: &str, query: &str) -> bool {
    let sub_resources = match method {
        "PUT" => &PUT[..],
        "POST" => &POST[..],
        _ => &[],
    };
    pairs(query).any(|pair| sub_resources.contains(&&*decoded_name(pair)))
}

/// How to set the `Content-MD5` of a request with a buffered body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Md5Header {
    /// Add one if the client sent none.
    pub(crate) is_added: bool,
    /// Replace the client's, because the gateway changed the body.
    pub is_replaced: bool,
}

impl Md5Header {
    /// Sets `Content-MD5` if it must be added or replaced.
    pub fn write(self, headers: &mut impl HeadersMut, body: &[u8]) {
        if self == Self::default() {
            return;
        }
        let is_sent = headers.view().contains(KnownHeader::ContentMd5);
        let is_due = if is_sent { self.is_replaced } else { self.is_added };
        if is_due {
            headers.set(KnownHeader::ContentMd5, &STANDARD.encode(Md5::digest(body)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_request::HeaderList;

    /// I1
    #[test]
    fn the_listed_documents_need_a_digest_and_objects_do_not() {
        for query in ["tagging", "tagging=", "versionId=7&tagging", "%74agging", "lifecycle", "object-lock"] {
            assert!(is_required("PUT", query), "{query}");
            assert!(!is_required("GET", query), "{query}");
        }
        assert!(is_required("POST", "delete"));
        for (method, query) in [
            ("PUT", ""),
            ("PUT", "delete"),
            ("PUT", "partNumber=1&uploadId=7"),
            ("PUT", "x=tagging"),
            ("POST", "uploads"),
            ("POST", "uploadId=7"),
            ("POST", "tagging"),
            ("DELETE", "tagging"),
        ] {
            assert!(!is_required(method, query), "{method} {query}");
        }
    }

    /// I1: the client's digest was verified against the client's body
    #[test]
    fn a_clients_digest_is_kept_unless_its_body_was_changed() {
        let written = |given: Option<&'static str>, is_added, is_replaced| {
            let mut headers = HeaderList::new(given.map(|given| ("content-md5", given)));
            Md5Header { is_added, is_replaced }.write(&mut headers, b"123456789");
            headers.get_text(KnownHeader::ContentMd5).map(str::to_owned)
        };
        let computed = Some("JfnnlDI7RTiF9RgfG2JNCw==".to_owned());
        let given = Some("given".to_owned());
        assert_eq!(written(None, false, false), None);
        assert_eq!(written(None, false, true), None);
        assert_eq!(written(None, true, false), computed);
        assert_eq!(written(Some("given"), true, false), given);
        assert_eq!(written(Some("given"), false, false), given);
        assert_eq!(written(Some("given"), false, true), computed);
    }
}
