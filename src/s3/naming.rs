//! Which bucket a request names: in its `Host`, below a base domain of the gateway's, or in its path.
//!
//! A `Host` that is a base domain itself, or lies below none, says nothing, and the path's first segment is the bucket. The
//! client's signature covers `Host` and path as they came, so both stay as they are; only what goes upstream is mapped.
//!
//! Source: S3 User Guide, "Virtual hosting of buckets". Deliberately absent: its third form, a `Host` that is the bucket's name
//! as a whole, because any name that leads to the gateway would become a bucket.

use actix_web::http::Uri;
use actix_web::http::header::{HOST, HeaderMap};
use tidegate_config::Addressing;

use crate::s3::target;

/// What a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// The bucket, as the client calls it.
    pub(crate) bucket: &'a str,
    /// The key, raw and with its slash; empty or a slash where the bucket itself is meant.
    pub(crate) key: &'a str,
    /// Where the bucket stands.
    pub(crate) addressing: Addressing,
}

impl Named<'_> {
    /// Whether the request is about the bucket and not about an object.
    pub(crate) fn is_bucket(&self) -> bool {
        matches!(self.key, "" | "/")
    }
}

/// What a request names, seen from its `Host` and its path.
pub(crate) fn of<'a>(uri: &'a Uri, headers: &'a HeaderMap, base_domains: &[String]) -> Named<'a> {
    // Without base domains no `Host` says anything, and none is looked for.
    let host = if base_domains.is_empty() { "" } else { host(uri, headers) };
    named(host, uri.path(), base_domains)
}

/// Whom the client believes to speak to: the `Host`, which is what it signs, or on HTTP/2 the authority.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or_default()
}

fn named<'a>(host: &'a str, path: &'a str, base_domains: &[String]) -> Named<'a> {
    // The longest wins, should one lie below another.
    let below = base_domains.iter().filter_map(|base| below(host, base)).min_by_key(|bucket| bucket.len());
    match below {
        Some(bucket) => Named { bucket, key: path, addressing: Addressing::Virtual },
        None => {
            let (bucket, key) = target::split(path);
            Named { bucket, key, addressing: Addressing::Path }
        }
    }
}

/// What stands before the base domain, if anything does.
fn below<'a>(host: &'a str, base: &str) -> Option<&'a str> {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let host = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    let (before, end) = host.split_at_checked(host.len().checked_sub(base.len())?)?;
    let bucket = before.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(base))?;
    (!bucket.is_empty()).then_some(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket_in(host: &str) -> Option<String> {
        let bases = ["s3.example.com".to_owned(), "eu.s3.example.com".to_owned()];
        let named = named(host, "/a/b", &bases);
        (named.addressing == Addressing::Virtual).then(|| {
            assert_eq!(named.key, "/a/b");
            named.bucket.to_owned()
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
    fn any_other_host_leaves_the_path_to_name_it() {
        for host in [
            "s3.example.com",
            "xs3.example.com",
            ".s3.example.com",
            "example.com",
            "127.0.0.1:8080",
            "[::1]",
            "",
            "ü",
        ] {
            assert_eq!(bucket_in(host), None, "{host}");
        }
        let named = named("gateway", "/b//k/", &[]);
        assert_eq!((named.bucket, named.key, named.is_bucket()), ("b", "//k/", false));
    }
}
