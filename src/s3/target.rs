//! The target of an upstream request: the client's bytes, except for the upstream's name of the bucket and removed parameters.

use actix_web::http::uri::PathAndQuery;

use crate::s3::percent::percent_encode;

/// Splits a path into its first segment, the bucket, and the rest with its slash.
pub(crate) fn split_bucket(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.find('/') {
        Some(slash) => path.split_at(slash),
        None => (path, ""),
    }
}

/// Replaces the path's first segment by a bucket's encoded name.
pub(crate) fn replace_bucket(target: &PathAndQuery, name: &str) -> Option<PathAndQuery> {
    let (_, rest) = split_bucket(target.path());
    assemble(&format!("{}{rest}", bucket_path(name)), target.query())
}

/// The path of a bucket. The `:` of a tenant is encoded, so that the sent path equals the signed path.
pub(crate) fn bucket_path(bucket: &str) -> String {
    format!("/{}", percent_encode(bucket.as_bytes(), false))
}

/// Removes the path's first segment.
pub(crate) fn strip_bucket(target: &PathAndQuery) -> Option<PathAndQuery> {
    let (_, rest) = split_bucket(target.path());
    assemble(if rest.is_empty() { "/" } else { rest }, target.query())
}

/// Adds the path of an endpoint or a bucket before the target's path.
pub(crate) fn add_prefix(target: &PathAndQuery, prefix: &str) -> Option<PathAndQuery> {
    assemble(&format!("{prefix}{}", target.path()), target.query())
}

/// Removes the pairs of a query that must not be forwarded: authentication of the client (A2), and pairs that become headers. None if there
/// is no such pair.
pub(crate) fn remove_parameters(
    target: &PathAndQuery,
    is_removed: impl Fn(&str) -> bool,
) -> Option<PathAndQuery> {
    let query = target.query()?;
    if !query.split('&').any(&is_removed) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_removed(pair)).collect();
    assemble(target.path(), Some(&kept.join("&")).filter(|query| !query.is_empty()).map(String::as_str))
}

/// The target with another query.
pub(crate) fn with_query(target: &PathAndQuery, query: &str) -> Option<PathAndQuery> {
    assemble(target.path(), Some(query))
}

fn assemble(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    match query {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::sigv4::query::is_presign_parameter;

    fn target(text: &str) -> PathAndQuery {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_segment_is_the_bucket() {
        assert_eq!(split_bucket("/b/k//x/"), ("b", "/k//x/"));
        assert_eq!(split_bucket("/b"), ("b", ""));
        assert_eq!(split_bucket("/"), ("", ""));
    }

    /// V5: only the name changes
    #[test]
    fn renaming_keeps_every_other_byte() {
        let renamed = replace_bucket(&target("/b//a%2Fb+c~%zz/?x=%20+&y"), "other").unwrap();
        assert_eq!(renamed, target("/other//a%2Fb+c~%zz/?x=%20+&y"));
        assert_eq!(strip_bucket(&target("/api/v1//x?q")).unwrap(), target("/v1//x?q"));
        assert_eq!(strip_bucket(&target("/api")).unwrap(), target("/"));
        assert_eq!(add_prefix(&target("/v1//x?q"), "/base").unwrap(), target("/base/v1//x?q"));
        assert_eq!(
            replace_bucket(&target("/b%2Dx/a%3Ab"), "acme:photos").unwrap(),
            target("/acme%3Aphotos/a%3Ab")
        );
    }

    /// A2, V7
    #[test]
    fn a_presigned_query_loses_only_its_signature() {
        let presigned =
            target("/b/k?versionId=7&X-Amz-Algorithm=A&X-Amz-Credential=B&X-Amz-Signature=C&response-x=%20");
        assert_eq!(
            remove_parameters(&presigned, is_presign_parameter).unwrap(),
            target("/b/k?versionId=7&response-x=%20")
        );
        assert_eq!(
            remove_parameters(&target("/b/k?X-Amz-Signature=C"), is_presign_parameter).unwrap(),
            target("/b/k")
        );
        assert_eq!(remove_parameters(&target("/b/k?x=1"), is_presign_parameter), None);
    }
}
