//! How a store names a bucket in its answers: in documents and in paths.
//!
//! The Ceph Object Gateway names a bucket of a tenant by its bucket alone
//! (`<Tenant>acme</Tenant><Name>photos</Name>`). A store below a path (`https://host/storage/v1/s3`) repeats that
//! path or, behind a proxy that removes it, does not.

use crate::s3::{addressing, target};

/// Whether `text` in a document of the store is its bucket `name`.
pub(crate) fn matches_bucket(name: &str, text: &str) -> bool {
    text == name || name.split_once(':').is_some_and(|(_, bucket)| text == bucket)
}

/// The rest of a path of the store behind its bucket `name`; none where the path names another bucket. `below` is the path of the endpoint.
pub(crate) fn strip_bucket<'a>(below: &str, name: &str, path: &'a str) -> Option<&'a str> {
    let rest = |path: &'a str| {
        let (segment, rest) = target::split_bucket(path.strip_prefix('/').map(|_| path)?);
        matches_bucket(name, &addressing::decode_bucket_name(segment)).then_some(rest)
    };
    path.strip_prefix(below).and_then(rest).or_else(|| rest(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_leave_the_tenant_out() {
        assert!(matches_bucket("acme:photos", "acme:photos") && matches_bucket("acme:photos", "photos"));
        assert!(matches_bucket("photos", "photos") && matches_bucket(":photos", "photos"));
        for (name, text) in
            [("acme:photos", "acme"), ("photos", "acme:photos"), ("acme:photos", ""), ("a:b", "b:b")]
        {
            assert!(!matches_bucket(name, text), "{name} {text}");
        }
    }

    #[test]
    fn the_bucket_is_the_first_segment_behind_the_endpoints_path() {
        for (below, name, path, rest) in [
            ("", "b", "/b/k", Some("/k")),
            ("", "b", "/b", Some("")),
            ("", "b", "/bb/k", None),
            ("", "b", "b/k", None),
            ("", "acme:b", "/acme%3Ab/k", Some("/k")),
            ("", "acme:b", "/b/k", Some("/k")),
            ("/s3/v1", "b", "/s3/v1/b/k", Some("/k")),
            ("/s3/v1", "b", "/b/k", Some("/k")),
            ("/s3/v1", "b", "/s3/v1/c/b", None),
            ("/s3", "s3", "/s3/s3/k", Some("/k")),
            ("/s3", "s3", "/s3/k", Some("/k")),
            ("/s3", "3b", "/s33b/k", None),
        ] {
            assert_eq!(strip_bucket(below, name, path), rest, "{below} {name} {path}");
        }
    }
}
