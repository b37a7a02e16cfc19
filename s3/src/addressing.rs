//! The bucket and key of a request: the bucket is in the `Host`, below a base domain of the gateway, or in the path.
//!
//! If the `Host` is a base domain, or not below one, the bucket is the first segment of the path. The client's signature covers `Host` and
//! path as they were sent, so both stay unchanged; only the upstream target is mapped.
//!
//! Clients may percent-encode any character of the segment (RFC 3986, 2.1: `acme%3Aphotos`, `cs%2Da`). The segment is decoded here, once;
//! routing, policies, renaming and the log use the decoded name (V12). A segment that does not decode to a valid name
//! (`bucket_name.rs`), such as `photos%2Fk`, `a%00b` or `a%253Ab`, stays as it was sent, and because of its `%` it matches
//! no bucket. A `Host` is not decoded, and its bucket has no tenant, because a `:` starts the port.
//!
//! Source: S3 User Guide, "Virtual hosting of buckets". Its third style, a `Host` that is the whole bucket name, is not supported: every
//! host name of the gateway would be a bucket.

use std::borrow::Cow;

use memchr::memchr;

use crate::bucket_name::is_bucket_name;
use crate::headers::{Headers, KnownHeader};
use crate::percent::percent_decode;
use crate::request::RequestHead;
use crate::target;

/// The part of a request that contains the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// The first segment of the path.
    Path,
    /// The `Host`.
    Virtual,
}

/// The bucket and key of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedResource<'a> {
    /// The client's name of the bucket, decoded. A segment that is no valid name is as it was sent.
    pub bucket: Cow<'a, str>,
    /// The key as it was sent, with its slash; empty or a slash for the bucket itself.
    pub key: &'a str,
    /// Whether the bucket is in the host or in the path.
    pub addressing: Addressing,
}

impl NamedResource<'_> {
    /// Whether the request is about the bucket and not about an object.
    pub fn is_bucket(&self) -> bool {
        matches!(self.key, "" | "/")
    }

    /// Whether the path starts with the bucket's name without percent-encoding.
    pub fn is_literal_in_path(&self) -> bool {
        self.addressing == Addressing::Path && matches!(self.bucket, Cow::Borrowed(_))
    }
}

/// Reads the bucket and key from a request's `Host` and path.
pub fn resolve<'a>(head: impl RequestHead<'a>, base_domains: &[String]) -> NamedResource<'a> {
    // Without base domains the `Host` cannot name a bucket.
    let host = if base_domains.is_empty() { "" } else { request_host(head) };
    resolve_host(host, head.path(), base_domains)
}

/// The host that the client signed: the `Host` header, or the authority in HTTP/2.
pub fn request_host<'a>(head: impl RequestHead<'a>) -> &'a str {
    let host = head.headers().get_text(KnownHeader::Host);
    host.or_else(|| head.authority()).unwrap_or_default()
}

fn resolve_host<'a>(host: &'a str, path: &'a str, base_domains: &[String]) -> NamedResource<'a> {
    // The longest base domain wins, if one is below another.
    let host_bucket =
        base_domains.iter().filter_map(|base| bucket_in_host(host, base)).min_by_key(|bucket| bucket.len());
    match host_bucket {
        Some(bucket) => NamedResource { bucket: bucket.into(), key: path, addressing: Addressing::Virtual },
        None => {
            let (bucket, key) = target::split_bucket(path);
            NamedResource { bucket: decode_bucket_name(bucket), key, addressing: Addressing::Path }
        }
    }
}

/// Decodes the bucket name in a path segment. A segment that does not decode to a valid name is returned unchanged.
pub fn decode_bucket_name(segment: &str) -> Cow<'_, str> {
    if memchr(b'%', segment.as_bytes()).is_none() {
        return Cow::Borrowed(segment);
    }
    let name = String::from_utf8(percent_decode(segment.as_bytes())).ok().filter(|name| is_bucket_name(name));
    name.map_or(Cow::Borrowed(segment), Cow::Owned)
}

/// The bucket before the base domain, if the host is below it.
fn bucket_in_host<'a>(host: &'a str, base: &str) -> Option<&'a str> {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let host = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    let (before, end) = host.split_at_checked(host.len().checked_sub(base.len())?)?;
    let bucket = before.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(base))?;
    (!bucket.is_empty() && !bucket.contains(':')).then_some(bucket)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket_in(host: &str) -> Option<String> {
        let bases = ["s3.example.com".to_owned(), "eu.s3.example.com".to_owned()];
        let named = resolve_host(host, "/a/b", &bases);
        (named.addressing == Addressing::Virtual).then(|| {
            assert_eq!(named.key, "/a/b");
            named.bucket.into_owned()
        })
    }

    #[test]
    fn a_host_below_a_base_domain_names_the_bucket() {
        for host in ["photos.s3.example.com", "photos.S3.Example.com:8080", "photos.s3.example.com."] {
            assert_eq!(bucket_in(host).as_deref(), Some("photos"), "{host}");
        }
        assert_eq!(bucket_in("my.photos.s3.example.com").as_deref(), Some("my.photos"));
        assert_eq!(bucket_in("photos.eu.s3.example.com:1").as_deref(), Some("photos"));
    }

    #[test]
    fn with_any_other_host_the_bucket_is_in_the_path() {
        for host in [
            "s3.example.com",
            "xs3.example.com",
            ".s3.example.com",
            "example.com",
            "127.0.0.1:8080",
            "[::1]",
            "",
            "ü",
            "acme:photos.s3.example.com",
            "acme:80.s3.example.com:80",
        ] {
            assert_eq!(bucket_in(host), None, "{host}");
        }
        let named = resolve_host("gateway", "/b//k/", &[]);
        assert_eq!((&*named.bucket, named.key, named.is_bucket()), ("b", "//k/", false));
    }

    /// V12: every spelling of a name is decoded to it, and the key stays as it was sent
    #[test]
    fn a_segment_is_decoded_once() {
        for (path, bucket) in [
            ("/acme:photos/a%2Fb", "acme:photos"),
            ("/acme%3Aphotos/a%2Fb", "acme:photos"),
            ("/acme%3aphotos/a%2Fb", "acme:photos"),
            ("/%61cme%3A%70hotos/a%2Fb", "acme:photos"),
            ("/%3Acs-a/a%2Fb", ":cs-a"),
            ("/cs%2Da/a%2Fb", "cs-a"),
            ("/%5F%41/a%2Fb", "_A"),
        ] {
            let named = resolve_host("gateway", path, &[]);
            assert_eq!((&*named.bucket, named.key), (bucket, "/a%2Fb"), "{path}");
            assert_eq!(named.is_literal_in_path(), !path.split('/').nth(1).unwrap().contains('%'), "{path}");
        }
    }

    /// V3, V12: a segment that does not decode to a valid name matches no bucket
    #[test]
    fn a_segment_that_is_no_valid_name_stays_encoded() {
        for segment in [
            "acme%253Aphotos",
            "photos%2Fk",
            "photos%2F..",
            "photos%5Ck",
            "a%00b",
            "a%0Ab",
            "a%7Fb",
            "%2Da",
            "%2D",
            "%2E%2E",
            "..%3A",
            "..%3Aphotos",
            "acme%3A..",
            "acme%3A",
            "%3A",
            "a%3Ab%3Ac",
            "a%c0%bab",
            "a%ef%bc%9ab",
            "a%ffb",
            "a%20b",
            "a%2",
            "a%zz",
            "a%",
            "photos%2A",
            "photos%3Fx",
            "photos%23x",
            "photos%40x",
            "photos%3B",
        ] {
            let named = resolve_host("gateway", &format!("/{segment}/k"), &[]).bucket.into_owned();
            assert_eq!(named, segment);
            assert!(!is_bucket_name(&named), "{segment}");
        }
    }

    proptest! {
        /// V12: a decoded name has no escapes left, so a second decoding gives the same name
        #[test]
        fn a_second_decoding_changes_nothing(segment in "[a:.%23456F-]{0,12}") {
            let name = decode_bucket_name(&segment);
            let is_name = is_bucket_name(&name);
            prop_assert_eq!(is_name, !name.contains('%') && is_name);
            if is_name {
                prop_assert_eq!(percent_decode(name.as_bytes()), name.as_bytes());
                prop_assert_eq!(percent_decode(segment.as_bytes()), name.as_bytes());
            } else {
                prop_assert_eq!(&*name, &segment);
            }
        }
    }
}
