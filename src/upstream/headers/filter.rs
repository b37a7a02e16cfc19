//! Decides which headers are forwarded (V7, V13).
//!
//! Hop-by-hop headers and the names in `Connection` are removed in both directions. Towards the upstream these are
//! removed too: the client's authentication and the headers of CDNs (S3), the gateway's own headers, `Expect`, which
//! the gateway answers itself, headers with the client's address, protocol or host (unless `forwarded` of the bucket
//! is `pass`), the names of injected credentials, checksum headers if the store gets none (`checksums = "strip"`),
//! and on `http` buckets headers that override the method or the target. All other headers are copied unchanged,
//! repeated headers included.
//!
//! Many servers read `_` in a name as `-` (CGI, RFC 3875, 4.1.18). So names are compared with `_` read as `-`.
//! Otherwise a client could send a removed header under an alias.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap, HeaderName};
use tidegate_config::{BucketConfig, Checksums, ClientDeadline, ForwardedHeaders, Kind};
use tidegate_s3::checksum::CHECKSUM_PREFIX;
use tidegate_s3::sigv4::CDN_HEADERS;
use tidegate_s3::sigv4::query::decoded_name;

use crate::upstream::headers::names::{
    CHECKSUMS, FORWARDED_PREFIX, FORWARDING, GATEWAY_PREFIX, HOP_BY_HOP, METHOD_OVERRIDES, PREFLIGHT,
    REWRITTEN, SIGNATURE, WRITTEN_BY_GATEWAY,
};
use crate::upstream::rules::deadline::REQUEST_TIMEOUT;

/// Prefix of S3's own headers.
const AMAZON: &str = "x-amz-";
/// Prefix of object metadata.
const METADATA: &str = "x-amz-meta-";

/// The names in the `Connection` header of a message.
pub(crate) struct ConnectionOptions(Vec<String>);

impl ConnectionOptions {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut names = Vec::new();
        // Nearly all messages name the connection itself and no header.
        let is_option =
            |name: &str| name.eq_ignore_ascii_case("keep-alive") || name.eq_ignore_ascii_case("close");
        for value in headers.get_all(header::CONNECTION) {
            let Some(text) = value.to_str().ok().filter(|text| !is_option(text)) else { continue };
            let listed = text.split(',').map(str::trim).filter(|name| !name.is_empty() && !is_option(name));
            names.extend(listed.map(|name| with_dashes(&name.to_ascii_lowercase()).into_owned()));
        }
        Self(names)
    }

    /// Whether a name is listed, both with `_` read as `-`.
    fn contains(&self, dashed: &str) -> bool {
        self.0.iter().any(|nominated| nominated == dashed)
    }
}

/// A name with `_` read as `-`.
fn with_dashes(name: &str) -> Cow<'_, str> {
    match memchr::memchr(b'_', name.as_bytes()) {
        None => Cow::Borrowed(name),
        Some(_) => Cow::Owned(name.replace('_', "-")),
    }
}

/// Names by length, so that a lookup compares few of them.
#[derive(Debug)]
struct NameSet(Vec<Vec<Box<str>>>);

impl NameSet {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut by_length: Vec<Vec<Box<str>>> = Vec::new();
        for name in names {
            if by_length.len() <= name.len() {
                by_length.resize_with(name.len() + 1, Vec::new);
            }
            by_length[name.len()].push(with_dashes(name).into());
        }
        Self(by_length)
    }

    fn contains(&self, dashed: &str) -> bool {
        self.0.get(dashed.len()).is_some_and(|names| names.iter().any(|name| **name == *dashed))
    }
}

/// Decides which client headers are forwarded to the upstream of a bucket.
#[derive(Debug)]
pub(crate) struct RequestHeaderFilter {
    /// Names that are removed.
    removed: NameSet,
    /// Names that the gateway reads and may rewrite. They are removed only under an alias.
    rewritten: NameSet,
    passes_forwarded: bool,
    /// Whether the store gets checksums.
    passes_checksums: bool,
    kind: Kind,
}

impl RequestHeaderFilter {
    /// `more` are the headers that authenticate a client to the gateway, and those of the credentials that it
    /// injects.
    pub(crate) fn of<'a>(bucket: &BucketConfig, more: impl Iterator<Item = &'a HeaderName>) -> Self {
        let passes_forwarded = bucket.forwarded == ForwardedHeaders::Pass;
        let forwarding = if passes_forwarded { &[][..] } else { &FORWARDING };
        let (kind_names, cdn_names, rewritten) = match bucket.kind {
            Kind::S3 => (&SIGNATURE[..], &CDN_HEADERS[..], &REWRITTEN[..]),
            Kind::Http => (&METHOD_OVERRIDES[..], &[][..], &[][..]),
        };
        let passes_checksums = bucket.upstream.integrity.checksums == Checksums::Pass;
        let checksum_names = if passes_checksums { &[][..] } else { &CHECKSUMS };
        let removed = HOP_BY_HOP
            .iter()
            .chain(&WRITTEN_BY_GATEWAY)
            .chain(kind_names)
            .chain(cdn_names)
            .chain(forwarding)
            .chain(checksum_names)
            .copied();
        let reads_timeout = bucket.upstream.client_deadline != ClientDeadline::Ignore;
        let timeout_name = reads_timeout.then_some(REQUEST_TIMEOUT);
        Self {
            removed: NameSet::of(removed.chain(more.map(HeaderName::as_str))),
            rewritten: NameSet::of(
                rewritten.iter().copied().chain(timeout_name.iter().map(HeaderName::as_str)),
            ),
            passes_forwarded,
            passes_checksums,
            kind: bucket.kind,
        }
    }

    /// Whether a client's header is forwarded to the upstream.
    pub(crate) fn forwards(&self, name: &HeaderName, nominated: &ConnectionOptions) -> bool {
        let name = name.as_str();
        let dashed = with_dashes(name);
        !self.removed.contains(&dashed)
            && !dashed.starts_with(GATEWAY_PREFIX)
            && (self.passes_checksums || !dashed.starts_with(CHECKSUM_PREFIX))
            && (self.passes_forwarded || !dashed.starts_with(FORWARDED_PREFIX))
            && !nominated.contains(&dashed)
            && (matches!(dashed, Cow::Borrowed(_)) || !self.is_alias(name, &dashed))
    }

    /// Whether a name with `_` is an alias of a header that the gateway rewrites, or in an `s3` bucket of an S3
    /// header: Ceph's RGW 16 reads `x_amz_copy_source` as the copy source. Names of metadata may contain `_`.
    fn is_alias(&self, name: &str, dashed: &str) -> bool {
        let is_amazons = dashed.starts_with(AMAZON) && !name.starts_with(METADATA);
        self.rewritten.contains(dashed) || (self.kind == Kind::S3 && is_amazons)
    }
}

/// Whether a header of a CORS preflight is forwarded to the store: the headers that the store's rules refer to, and
/// those that describe the request. A preflight has no credential (Fetch Standard, "CORS-preflight fetch"), so
/// headers that may be one are removed.
pub(crate) fn forwards_in_preflight(name: &HeaderName) -> bool {
    PREFLIGHT.contains(&name.as_str())
}

/// Whether a query parameter is a checksum header that an SDK presigned.
pub(crate) fn is_checksum_parameter(pair: &str) -> bool {
    let name = decoded_name(pair).to_ascii_lowercase();
    name.starts_with(CHECKSUM_PREFIX) || CHECKSUMS.contains(&&*name)
}

/// Whether an upstream's header is forwarded to the client. `Content-Length` follows from the body, and the gateway
/// sets its own headers.
pub(crate) fn forwards_to_client(name: &HeaderName, nominated: &ConnectionOptions) -> bool {
    !HOP_BY_HOP.contains(&name.as_str())
        && !matches!(name.as_str(), "content-length" | "x-request-id")
        && !name.as_str().starts_with(GATEWAY_PREFIX)
        && !nominated.contains(&with_dashes(name.as_str()))
}

/// The headers of an interim response for the client. A bucket's CORS rules are those of its final response.
pub(crate) fn interim_headers(mut headers: HeaderMap) -> HeaderMap {
    let nominated = ConnectionOptions::of(&headers);
    headers.retain(|name, _| {
        forwards_to_client(name, &nominated) && !name.as_str().starts_with("access-control-")
    });
    headers
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

    fn nominating(value: &'static str) -> ConnectionOptions {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static(value));
        ConnectionOptions::of(&headers)
    }

    fn of(kind: Kind, forwarded: ForwardedHeaders) -> RequestHeaderFilter {
        let bucket = BucketConfig { kind, forwarded, ..BucketConfig::default() };
        RequestHeaderFilter::of(&bucket, [API_KEY, HeaderName::from_static("x_vendor-key")].iter())
    }

    fn forwards(headers: &RequestHeaderFilter, name: &str) -> bool {
        let nominated = nominating("keep-alive, X-Secret");
        headers.forwards(&HeaderName::try_from(name).unwrap(), &nominated)
    }

    /// V7, V11
    #[test]
    fn nominated_and_internal_headers_are_removed() {
        let s3 = of(Kind::S3, ForwardedHeaders::Drop);
        for removed in [
            "x-secret",
            "connection",
            "te",
            "authorization",
            "x-amz-security-token",
            "x-amz-cf-id",
            "x-amz-apigw-id",
            "x-tidegate-session",
            "x-tidegate-anything",
            "host",
            "x-api-key",
            "x-vendor-key",
            "x_amz_copy_source",
            "x-amz-copy_source",
            "x_amz-acl",
            "x-amz_meta-a",
        ] {
            assert!(!forwards(&s3, removed), "{removed}");
        }
        for kept in [
            "x-amz-meta-a",
            "x-amz-meta-a_b",
            "x-amz-cf-id2",
            "x-amz-cf",
            "range",
            "if-match",
            "content-md5",
            "traceparent",
        ] {
            assert!(forwards(&s3, kept), "{kept}");
        }
        let http = of(Kind::Http, ForwardedHeaders::Set);
        for kept in
            ["authorization", "x-amz-date", "x-amz-cf-id", "content-type", "x_custom", "x-request-timeout"]
        {
            assert!(forwards(&http, kept), "{kept}");
        }
        assert!(!forwards(&http, "x_request_timeout"));
    }

    /// V13
    #[test]
    fn forwarding_headers_pass_only_where_the_bucket_allows_them() {
        for name in FORWARDING.into_iter().chain(["x-forwarded-for", "x-forwarded-anything"]) {
            for kind in [Kind::S3, Kind::Http] {
                for forwarded in [ForwardedHeaders::Drop, ForwardedHeaders::Set] {
                    assert!(!forwards(&of(kind, forwarded), name), "{name}, {kind:?}, {forwarded:?}");
                }
                assert!(forwards(&of(kind, ForwardedHeaders::Pass), name), "{name}, {kind:?}, pass");
            }
        }
        assert!(!forwards(&of(Kind::S3, ForwardedHeaders::Pass), "x-tidegate-session"));
    }

    /// The lists must contain names in the form in which they are compared.
    #[test]
    fn listed_names_are_in_lower_case_with_dashes_and_once() {
        let all: Vec<&str> = HOP_BY_HOP
            .into_iter()
            .chain(WRITTEN_BY_GATEWAY)
            .chain(SIGNATURE)
            .chain(CDN_HEADERS)
            .chain(FORWARDING)
            .chain(METHOD_OVERRIDES)
            .chain(REWRITTEN)
            .collect();
        assert!(all.iter().all(|name| *name == with_dashes(&name.to_ascii_lowercase())), "{all:?}");
        let once: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(once.len(), all.len());
    }

    proptest! {
        /// V12, V13: no mixture of `_` and `-` forwards a removed header
        #[test]
        fn an_alias_is_removed_like_its_name(at in 0_usize..90, underscores in any::<u64>()) {
            let listed = HOP_BY_HOP.into_iter().chain(WRITTEN_BY_GATEWAY).chain(FORWARDING).chain(METHOD_OVERRIDES)
                .chain(["x-tidegate-session", "x-forwarded-for", "x-api-key", "x-vendor-key", "x-secret"]);
            let all: Vec<&str> = listed.collect();
            let name = all[at % all.len()];
            let respelled: String = name.char_indices()
                .map(|(at, c)| if c == '-' && underscores >> (at % 64) & 1 == 1 { '_' } else { c })
                .collect();
            prop_assert!(!forwards(&of(Kind::Http, ForwardedHeaders::Set), &respelled), "{}", respelled);
        }
    }
}
