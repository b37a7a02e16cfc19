//! The request target as sent upstream: the same bytes, but for the upstream's own bucket name.

use actix_web::http::uri::PathAndQuery;

use crate::s3::sigv4::canonical::percent_encode;

/// The path's first segment, which names the bucket, and the rest with its slash.
pub(crate) fn split_bucket(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.find('/') {
        Some(slash) => path.split_at(slash),
        None => (path, ""),
    }
}

/// Puts a bucket's name, encoded, in the place of the path's first segment.
pub(crate) fn replace_bucket(target: &PathAndQuery, name: &str) -> Option<PathAndQuery> {
    let (_, rest) = split_bucket(target.path());
    assemble(&format!("{}{rest}", bucket_path(name)), target.query())
}

/// The path of a bucket. The `:` of a tenant is encoded, so that the bytes are those that the signature covers.
pub(crate) fn bucket_path(bucket: &str) -> String {
    format!("/{}", percent_encode(bucket.as_bytes(), false))
}

/// Takes the path's first segment away.
pub(crate) fn strip_bucket(target: &PathAndQuery) -> Option<PathAndQuery> {
    let (_, rest) = split_bucket(target.path());
    assemble(if rest.is_empty() { "/" } else { rest }, target.query())
}

/// Puts a path before the target's: an endpoint's own, or a bucket's.
pub(crate) fn add_prefix(target: &PathAndQuery, prefix: &str) -> Option<PathAndQuery> {
    assemble(&format!("{prefix}{}", target.path()), target.query())
}

/// Removes pairs of a query that must not go upstream: proofs of the client's identity (A2), and pairs that become headers. None where
/// there is no such pair.
pub(crate) fn remove_parameters(
    target: &PathAndQuery,
    ends_here: impl Fn(&str) -> bool,
) -> Option<PathAndQuery> {
    let query = target.query()?;
    if !query.split('&').any(&ends_here) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !ends_here(pair)).collect();
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

    /// V5: nothing but the name changes
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
