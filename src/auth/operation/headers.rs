//! Privileged headers: they grant access to others, or override a protection, so the request needs `configure`.
//!
//! For each of them S3 requires another permission than the operation's own (Amazon S3 User Guide, "Required permissions for S3 API
//! operations"). AWS SDKs hoist headers into the query of presigned URLs, and S3 reads them there as headers, so a parameter with such a
//! name counts as the header. Some stores look headers up as CGI variables, in which `_` and `-` are the same character.

use std::borrow::Cow;

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use tidegate_s3::OWNER_ONLY_ACLS;
use tidegate_s3::sigv4::query::{decoded_name, is_header, is_presign_parameter, pairs};

use super::query::decoded_value;

/// Header names that need `configure` with any value. A `*` at the end matches the rest of a name.
const PRIVILEGED: [&str; 4] =
    ["x-amz-grant*", "x-amz-bypass-governance-retention", "x-minio-force-delete", "x-minio-source-*"];
const ACL: &str = "x-amz-acl";

/// The headers, then the hoisted headers, for which an operation needs `configure`. Reads have none.
pub(super) fn privileged_header<'a>(
    method: &Method,
    headers: &'a HeaderMap,
    query: &'a str,
) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    (!is_read).then(|| sent(headers).chain(hoisted(query))).into_iter().flatten()
}

fn sent(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, str>> {
    let candidates = headers.iter().filter(|(name, _)| name.as_str().starts_with('x'));
    let privileged = candidates.filter(|(name, value)| needs_configure(name.as_str(), value.as_bytes()));
    privileged.map(|(name, _)| Cow::Borrowed(name.as_str()))
}

fn hoisted(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let named = pairs(query).map(|pair| (decoded_name(pair), pair));
    named.filter(|(name, pair)| needs_configure(name, &decoded_value(pair))).map(|(name, _)| name)
}

/// Whether a parameter is a header that a client moved into the query.
pub(super) fn is_hoisted(parameter: &str) -> bool {
    is_header(parameter) && !is_presign_parameter(parameter)
}

fn needs_configure(name: &str, value: &[u8]) -> bool {
    let is_privileged = |known: &&str| match known.strip_suffix('*') {
        Some(prefix) => name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
        None => name.eq_ignore_ascii_case(known),
    };
    PRIVILEGED.iter().any(is_privileged)
        || (name.eq_ignore_ascii_case(ACL) && !OWNER_ONLY_ACLS.iter().any(|acl| acl.as_bytes() == value))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn found(method: Method, header: (&str, &str), query: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.append(HeaderName::try_from(header.0).unwrap(), HeaderValue::try_from(header.1).unwrap());
        privileged_header(&method, &headers, query).next().map(Cow::into_owned)
    }

    /// V11: an ACL or grant that gives others access, and an override of a lock
    #[test]
    fn headers_that_grant_or_override_are_found() {
        for (name, value) in [
            ("x-amz-acl", "public-read"),
            ("x-amz-acl", "public-read-write"),
            ("x-amz-acl", "authenticated-read"),
            ("x-amz-acl", "aws-exec-read"),
            ("x-amz-acl", "log-delivery-write"),
            ("x-amz-acl", "Private"),
            ("x-amz-acl", ""),
            ("x-amz-grant-read", "id=1"),
            ("x-amz-grant-full-control", "id=1"),
            ("x-amz-bypass-governance-retention", "true"),
            ("x-minio-force-delete", "true"),
            ("x-minio-source-mtime", "1"),
        ] {
            assert_eq!(found(Method::PUT, (name, value), "").as_deref(), Some(name), "{name}: {value}");
            let parameter = format!("{}={value}", name.to_ascii_uppercase());
            let hoisted = found(Method::PUT, ("accept", "*/*"), &format!("a=1&{parameter}"));
            assert_eq!(hoisted, Some(name.to_ascii_uppercase()), "{parameter}");
            assert_eq!(found(Method::GET, (name, value), &parameter), None, "reads grant nothing");
        }
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-acl", "bucket-owner-read"),
            ("x-amz-acl", "bucket-owner-full-control"),
            ("x-amz-meta-acl", "public-read"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-gran", "id=1"),
        ] {
            assert_eq!(
                found(Method::PUT, (name, value), &format!("{name}={value}")),
                None,
                "{name}: {value}"
            );
        }
    }

    /// V11: SDKs hoist headers into presigned URLs
    #[test]
    fn a_hoisted_header_is_recognized_by_its_name() {
        for name in ["x-amz-checksum-crc32", "X-Amz-Sdk-Checksum-Algorithm", "x-amz-meta-a_b"] {
            assert!(is_hoisted(name), "{name}");
        }
        for name in
            ["x-amz-acl=public-read", "x-amz-", "x-amz", "uploads", "x-amz-a&uploads", "x-amz-\u{fffd}"]
        {
            assert_eq!(is_hoisted(name), name == "x-amz-", "{name}");
        }
    }
}
