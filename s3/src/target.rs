//! The target of an upstream request: the client's bytes, except for the upstream's name of the bucket and removed parameters.
//!
//! A target is a path, and a query after a `?`.

use memchr::{memchr, memchr2};

use crate::percent::percent_encode;

/// Splits a target into its path and its query. An empty path means `/`.
pub(crate) fn split_query(target: &str) -> (&str, Option<&str>) {
    let (path, query) = match memchr(b'?', target.as_bytes()) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    };
    (if path.is_empty() { "/" } else { path }, query)
}

/// Splits a path into its first segment, the bucket, and the rest with its slash.
pub fn split_bucket(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match memchr(b'/', path.as_bytes()) {
        Some(slash) => path.split_at(slash),
        None => (path, ""),
    }
}

/// The part of a target after the path's first segment.
fn after_bucket(target: &str) -> &str {
    let target = target.strip_prefix('/').unwrap_or(target);
    memchr2(b'/', b'?', target.as_bytes()).map_or("", |end| &target[end..])
}

/// Replaces the path's first segment by a bucket's encoded name.
pub fn replace_bucket(target: &str, name: &str) -> String {
    format!("{}{}", bucket_path(name), after_bucket(target))
}

/// The path of a bucket. The `:` of a tenant is encoded, so that the sent path equals the signed path.
pub fn bucket_path(bucket: &str) -> String {
    format!("/{}", percent_encode(bucket.as_bytes(), false))
}

/// Removes the path's first segment.
pub fn strip_bucket(target: &str) -> String {
    let rest = after_bucket(target);
    if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
}

/// Adds the path of an endpoint or a bucket before the target's path.
pub fn add_prefix(target: &str, prefix: &str) -> String {
    let slash = if target.starts_with('/') { "" } else { "/" };
    format!("{prefix}{slash}{target}")
}

/// Removes the pairs of a query that must not be forwarded: authentication of the client (A2), and pairs that become headers. None if there
/// is no such pair.
pub fn remove_parameters(target: &str, is_removed: impl Fn(&str) -> bool) -> Option<String> {
    let (path, query) = split_query(target);
    let query = query?;
    if !query.split('&').any(&is_removed) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_removed(pair)).collect();
    let kept = kept.join("&");
    Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") })
}

/// The target with another query.
pub fn with_query(target: &str, query: &str) -> String {
    format!("{}?{query}", split_query(target).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sigv4::query::is_presign_parameter;

    #[test]
    fn the_first_segment_is_the_bucket() {
        assert_eq!(split_bucket("/b/k//x/"), ("b", "/k//x/"));
        assert_eq!(split_bucket("/b"), ("b", ""));
        assert_eq!(split_bucket("/"), ("", ""));
    }

    /// V5: only the name changes
    #[test]
    fn renaming_keeps_every_other_byte() {
        let renamed = replace_bucket("/b//a%2Fb+c~%zz/?x=%20+&y", "other");
        assert_eq!(renamed, "/other//a%2Fb+c~%zz/?x=%20+&y");
        assert_eq!(strip_bucket("/api/v1//x?q"), "/v1//x?q");
        assert_eq!(strip_bucket("/api"), "/");
        assert_eq!(add_prefix("/v1//x?q", "/base"), "/base/v1//x?q");
        assert_eq!(replace_bucket("/b%2Dx/a%3Ab", "acme:photos"), "/acme%3Aphotos/a%3Ab");
    }

    /// V1: the target of `http://host?x` has no path, which means `/` (RFC 9112, 3.2.1)
    #[test]
    fn an_empty_path_is_a_slash() {
        assert_eq!(split_query("?x"), ("/", Some("x")));
        assert_eq!(strip_bucket("?x"), "/?x");
        assert_eq!(add_prefix("?x", "/base"), "/base/?x");
        assert_eq!(with_query("?x", "y"), "/?y");
        assert_eq!(remove_parameters("?x&y", |pair| pair == "x").unwrap(), "/?y");
    }

    /// A2, V7
    #[test]
    fn a_presigned_query_loses_only_its_signature() {
        let presigned =
            "/b/k?versionId=7&X-Amz-Algorithm=A&X-Amz-Credential=B&X-Amz-Signature=C&response-x=%20";
        assert_eq!(
            remove_parameters(presigned, is_presign_parameter).unwrap(),
            "/b/k?versionId=7&response-x=%20"
        );
        assert_eq!(remove_parameters("/b/k?X-Amz-Signature=C", is_presign_parameter).unwrap(), "/b/k");
        assert_eq!(remove_parameters("/b/k?x=1", is_presign_parameter), None);
    }
}
