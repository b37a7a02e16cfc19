//! Compares the bucket names in a store's responses, in documents and in paths, with the bucket's name.
//!
//! The Ceph Object Gateway omits the tenant from the name of a bucket (`<Tenant>acme</Tenant><Name>photos</Name>`). A store with an
//! endpoint path (`https://host/storage/v1/s3`) repeats that path, unless a proxy removes it.

use crate::{addressing, target};

/// Whether `text` in a document of the store is the bucket `name`.
pub(crate) fn matches_bucket(name: &str, text: &str) -> bool {
    text == name || name.split_once(':').is_some_and(|(_, bucket)| text == bucket)
}

/// The rest of a store's path after the bucket `name`; none if the path is of another bucket. `endpoint_path` is the path of the endpoint.
pub(crate) fn strip_bucket<'a>(endpoint_path: &str, name: &str, path: &'a str) -> Option<&'a str> {
    let rest = |path: &'a str| {
        let (segment, rest) = target::split_bucket(path.strip_prefix('/').map(|_| path)?);
        matches_bucket(name, &addressing::decode_bucket_name(segment)).then_some(rest)
    };
    path.strip_prefix(endpoint_path).and_then(rest).or_else(|| rest(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_omit_the_tenant() {
        assert!(matches_bucket("acme:photos", "acme:photos") && matches_bucket("acme:photos", "photos"));
        assert!(matches_bucket("photos", "photos") && matches_bucket(":photos", "photos"));
        for (name, text) in
            [("acme:photos", "acme"), ("photos", "acme:photos"), ("acme:photos", ""), ("a:b", "b:b")]
        {
            assert!(!matches_bucket(name, text), "{name} {text}");
        }
    }

    #[test]
    fn the_bucket_is_the_first_segment_after_the_endpoint_path() {
        for (endpoint_path, name, path, rest) in [
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
            assert_eq!(strip_bucket(endpoint_path, name, path), rest, "{endpoint_path} {name} {path}");
        }
    }
}
