//! `x-amz-copy-source` names a bucket a second time, and the upstream would believe it.
//!
//! The gateway's credentials may read more than its clients may, so the source must be in a bucket of the same
//! upstream that the client could read itself. What travels on is put together anew from what was checked, with the
//! upstream's name for the bucket: two readers of the client's own spelling could see two keys. A store compares the whole value with the
//! `s3:x-amz-copy-source` conditions of its policies, so two things stay as the client wrote them: the presence of
//! the leading slash, and the spelling of a bucket that the upstream calls the same. The decoded bucket has the
//! grammar of names, which leaves a second reader nothing to decode. Stores read the parameter of the same name in
//! presigned URLs; here it is refused.

use actix_web::http::header::{HeaderMap, HeaderName};
use tidegate_config::is_bucket_name;

use crate::http::path_segments::has_parent_segment;
use crate::http::request_validation::percent_decode;
use crate::s3::sigv4::canonical::percent_encode;
use crate::s3::sigv4::query::{decoded_name, pairs};

/// The header that names the source of a copy.
pub(crate) const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// A header that names no source, or a source in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidCopySource;

/// The source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopySource {
    /// Whether the client wrote a slash before the bucket.
    has_leading_slash: bool,
    /// Decoded.
    pub(crate) bucket: String,
    /// The bucket as it was sent; encoded where it was not sent apart from the key.
    spelling: String,
    /// Decoded.
    pub(crate) key: Vec<u8>,
    /// As it was sent.
    version: Option<String>,
}

impl CopySource {
    /// The source that a request names, if it is a copy.
    pub(crate) fn from_request(headers: &HeaderMap, query: &str) -> Result<Option<Self>, InvalidCopySource> {
        if pairs(query).any(|pair| decoded_name(pair).eq_ignore_ascii_case(COPY_SOURCE.as_str())) {
            return Err(InvalidCopySource);
        }
        let mut values = headers.get_all(COPY_SOURCE);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                value.to_str().ok().and_then(Self::parse).map(Some).ok_or(InvalidCopySource)
            }
            (Some(_), Some(_)) => Err(InvalidCopySource),
        }
    }

    /// Clients encode the value as a whole, the slash after the bucket included, or the key alone.
    fn parse(value: &str) -> Option<Self> {
        let (path, version) = match value.split_once("?versionId=") {
            Some((path, version)) => (path, Some(version.to_owned())),
            None => (value, None),
        };
        let decoded = percent_decode(path.as_bytes());
        let stripped = decoded.strip_prefix(b"/");
        let path = stripped.unwrap_or(&decoded);
        let slash = path.iter().position(|byte| *byte == b'/')?;
        let (bucket, key) = (path[..slash].to_vec(), path[slash + 1..].to_vec());
        // Nothing that a store takes for more than a name, such as an access point.
        let bucket = String::from_utf8(bucket).ok().filter(|name| is_bucket_name(name))?;
        let sent = value.strip_prefix('/').unwrap_or(value).split('/').next().unwrap_or_default();
        let spelling = match percent_decode(sent.as_bytes()) == bucket.as_bytes() {
            true => sent.to_owned(),
            false => percent_encode(bucket.as_bytes(), false),
        };
        let is_key = !key.is_empty() && !has_parent_segment(&key);
        is_key.then_some(Self { has_leading_slash: stripped.is_some(), bucket, spelling, key, version })
    }

    /// The header's value where the upstream calls the bucket `upstream_name`.
    pub(crate) fn header_value(&self, upstream_name: &str) -> String {
        let Self { has_leading_slash, bucket, spelling, key, version } = self;
        let version = version.as_ref().map_or_else(String::new, |id| format!("?versionId={id}"));
        let slash = if *has_leading_slash { "/" } else { "" };
        let bucket = match bucket == upstream_name {
            true => spelling.clone(),
            false => percent_encode(upstream_name.as_bytes(), false),
        };
        format!("{slash}{bucket}/{}{version}", percent_encode(key, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V12, V5: the value that travels on has a leading slash only where the client wrote one
    #[test]
    fn both_spellings_are_read() {
        for (value, bucket, sent) in [
            ("/src/a%20b?versionId=3", "src", "/up/a%20b?versionId=3"),
            ("src/a//b", "src", "up/a//b"),
            ("src//a", "src", "up//a"),
            ("src%2Fa%20b?versionId=3", "src", "up/a%20b?versionId=3"),
            ("%2Fsrc%2Fa%20b", "src", "/up/a%20b"),
            ("src%2Fsecret/public/x", "src", "up/secret/public/x"),
            ("src/a+b?c", "src", "up/a%2Bb%3Fc"),
        ] {
            let source = CopySource::parse(value).unwrap();
            assert_eq!((&*source.bucket, source.header_value("up")), (bucket, sent.to_owned()), "{value}");
        }
    }

    /// V12, V5: every spelling of a bucket is one name; it travels as it was sent, and encoded where the upstream calls it otherwise
    #[test]
    fn a_bucket_may_have_a_tenant_in_any_spelling() {
        for (value, bucket, sent, renamed) in [
            ("acme:photos/k", "acme:photos", "acme:photos/k", "up%3Ax/k"),
            ("/acme:photos/k", "acme:photos", "/acme:photos/k", "/up%3Ax/k"),
            ("acme%3Aphotos/k", "acme:photos", "acme%3Aphotos/k", "up%3Ax/k"),
            ("acme%3aphotos/a%2Fb", "acme:photos", "acme%3aphotos/a/b", "up%3Ax/a/b"),
            ("%2Facme%3Aphotos%2Fk", "acme:photos", "/acme%3Aphotos/k", "/up%3Ax/k"),
            ("acme:photos%2Fk/x", "acme:photos", "acme%3Aphotos/k/x", "up%3Ax/k/x"),
            (":cs-a/k?versionId=a:b", ":cs-a", ":cs-a/k?versionId=a:b", "up%3Ax/k?versionId=a:b"),
            ("cs%2Da/k", "cs-a", "cs%2Da/k", "up%3Ax/k"),
        ] {
            let source = CopySource::parse(value).unwrap();
            assert_eq!(source.bucket, bucket, "{value}");
            assert_eq!(
                (source.header_value(bucket), source.header_value("up:x")),
                (sent.to_owned(), renamed.to_owned()),
                "{value}"
            );
        }
    }

    /// V3, V12
    #[test]
    fn what_names_no_object_is_no_source() {
        for bad in [
            "nothing",
            "src/",
            "/",
            "",
            "//src/k",
            "src/../other/k",
            "src/public/%2e%2e/secret",
            "src/public/%252e%252e/secret",
            "src/public/..;/secret",
            "src/public/%c0%ae%c0%ae/secret",
            "src/public%5c..%5csecret",
            "%ff/k",
            "t:u:b/k",
            "arn:aws:s3:eu-west-1:1:accesspoint/a/object/k",
            "acme:/k",
            ":/k",
            "acme%253Aphotos/k",
            "..:photos/k",
            "acme:../k",
            "-a/k",
            "a%00b/k",
            "a%c0%bab/k",
        ] {
            assert_eq!(CopySource::parse(bad), None, "{bad}");
        }
        assert_eq!(
            CopySource::from_request(&HeaderMap::new(), "a&X-Amz-Copy%2DSource=/b/k"),
            Err(InvalidCopySource)
        );
        assert_eq!(CopySource::from_request(&HeaderMap::new(), "a=x-amz-copy-source"), Ok(None));
    }
}
