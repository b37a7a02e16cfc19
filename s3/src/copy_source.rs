//! The source of a copy: `x-amz-copy-source` names a second bucket (V12, V5).
//!
//! The gateway's credentials may read more than the client may, so the source must be in a bucket of the same upstream that the client may
//! read. The forwarded value is encoded again from the checked parts, with the upstream's name of the bucket, because two parsers could
//! read different keys in the client's spelling. A store compares the whole value with the `s3:x-amz-copy-source` conditions of its
//! policies, so two things stay as the client sent them: the leading slash, and the spelling of a bucket with the same name at the
//! upstream. The decoded bucket is a valid name, so a second decoding changes nothing. Stores read a parameter of the same name in
//! presigned URLs; the gateway rejects it.

use crate::bucket_name::is_bucket_name;
use crate::headers::{Headers, KnownHeader, ascii_text};
use crate::path_segments::has_parent_segment;
use crate::percent::percent_decode;
use crate::percent::percent_encode;
use crate::sigv4::query::{decoded_name, pairs};

/// The header is malformed, or the source is in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCopySource;

/// The source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// Whether the client sent a slash before the bucket.
    has_leading_slash: bool,
    /// The decoded bucket.
    pub bucket: String,
    /// The bucket as it was sent; encoded if the slash after it was encoded.
    spelling: String,
    /// The decoded key.
    pub key: Vec<u8>,
    /// The version as it was sent.
    version: Option<String>,
}

impl CopySource {
    /// The source of a request, if the request is a copy.
    pub fn from_request<'a>(
        headers: impl Headers<'a>,
        query: &str,
    ) -> Result<Option<Self>, InvalidCopySource> {
        let name = KnownHeader::CopySource.as_str();
        if pairs(query).any(|pair| decoded_name(pair).eq_ignore_ascii_case(name)) {
            return Err(InvalidCopySource);
        }
        let mut values = headers.get_all(KnownHeader::CopySource);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => ascii_text(value).and_then(Self::parse).map(Some).ok_or(InvalidCopySource),
            (Some(_), Some(_)) => Err(InvalidCopySource),
        }
    }

    /// Parses a value. Clients encode the whole value, including the slash after the bucket, or only the key.
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
        // Only a bucket name: a store would also accept other resources here, such as an access point.
        let bucket = String::from_utf8(bucket).ok().filter(|name| is_bucket_name(name))?;
        let sent = value.strip_prefix('/').unwrap_or(value).split('/').next().unwrap_or_default();
        let spelling = match percent_decode(sent.as_bytes()) == bucket.as_bytes() {
            true => sent.to_owned(),
            false => percent_encode(bucket.as_bytes(), false),
        };
        let is_key = !key.is_empty() && !has_parent_segment(&key);
        is_key.then_some(Self { has_leading_slash: stripped.is_some(), bucket, spelling, key, version })
    }

    /// The header's value for the upstream. `upstream_name` is the upstream's name of the bucket.
    pub fn header_value(&self, upstream_name: &str) -> String {
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
    use crate::sample_request::HeaderList;

    /// V12, V5: the forwarded value has a leading slash only if the client sent one
    #[test]
    fn both_spellings_are_parsed() {
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

    /// V12, V5: every spelling of a bucket is one name; it is forwarded as it was sent, or encoded if the upstream has another name for it
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
    fn values_that_name_no_object_are_rejected() {
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
            CopySource::from_request(&HeaderList::default(), "a&X-Amz-Copy%2DSource=/b/k"),
            Err(InvalidCopySource)
        );
        assert_eq!(CopySource::from_request(&HeaderList::default(), "a=x-amz-copy-source"), Ok(None));
    }
}
