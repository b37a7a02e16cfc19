//! The grammar of a bucket name: `bucket`, or `tenant:bucket` as in the Ceph Object Gateway.
//!
//! Patterns of the configuration, copy sources and the first segment of a path use this grammar. The tenant may be empty: `:bucket` is a
//! bucket of Ceph's default tenant. A name cannot begin with `-`: the data listener's own probes are below `/-/`.
//!
//! Source: Ceph documentation, "Multitenancy" (`tenant:bucket` in S3 paths). Upper case and `_` are allowed, as in names of old
//! AWS buckets. The grammar does not limit the length. It rejects a second `:`, which in Ceph begins the instance of a bucket.

/// Why a text is not a bucket name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketNameError {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// Paths below `/-/` belong to the gateway.
    #[error("it begins with `-`")]
    LeadingHyphen,
    /// A character that paths, labels or logs would have to escape.
    #[error("it contains {0:?}; only letters, digits, `.`, `_`, `-` and one `:` after a tenant are allowed")]
    Character(char),
    /// More than a tenant and a bucket.
    #[error("it contains more than one `:`")]
    Colons,
    /// A tenant without a bucket, which Ceph answers with the list of buckets.
    #[error("it has no bucket after its `:`")]
    TenantAlone,
    /// A dot segment of a path.
    #[error("its tenant or bucket is `.` or `..`")]
    DotSegment,
}

/// Whether a text is a bucket name.
pub fn is_bucket_name(text: &str) -> bool {
    check(text, |_| false).is_ok()
}

/// Checks a name in which `is_special` characters are allowed as well.
///
/// # Errors
/// The text is not such a name.
pub fn check(text: &str, is_special: fn(char) -> bool) -> Result<(), BucketNameError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    if text.is_empty() {
        return Err(BucketNameError::Empty);
    }
    if let Some(character) = text.chars().find(|c| !is_allowed(*c) && !is_special(*c)) {
        return Err(BucketNameError::Character(character));
    }
    let (tenant, bucket) = text.split_once(':').unwrap_or(("", text));
    if bucket.contains(':') {
        return Err(BucketNameError::Colons);
    }
    if bucket.is_empty() {
        return Err(BucketNameError::TenantAlone);
    }
    if tenant.starts_with('-') || bucket.starts_with('-') {
        return Err(BucketNameError::LeadingHyphen);
    }
    let is_dots = |part: &str| matches!(part, "." | "..");
    if is_dots(tenant) || is_dots(bucket) { Err(BucketNameError::DotSegment) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V12
    #[test]
    fn a_name_is_a_bucket_with_an_optional_tenant() {
        for name in ["b", "My.bucket_1-x", "acme:photos", ":photos", "...", "a:b.c", "9"] {
            assert!(is_bucket_name(name), "{name}");
        }
        for (text, error) in [
            ("", BucketNameError::Empty),
            ("-", BucketNameError::LeadingHyphen),
            ("-b", BucketNameError::LeadingHyphen),
            ("a*", BucketNameError::Character('*')),
            ("a/b", BucketNameError::Character('/')),
            ("a%3Ab", BucketNameError::Character('%')),
            ("a\0", BucketNameError::Character('\0')),
            ("a b", BucketNameError::Character(' ')),
            ("a\u{ff1a}b", BucketNameError::Character('\u{ff1a}')),
            ("a:b:c", BucketNameError::Colons),
            ("::b", BucketNameError::Colons),
            ("acme:", BucketNameError::TenantAlone),
            (":", BucketNameError::TenantAlone),
            (".", BucketNameError::DotSegment),
            ("..", BucketNameError::DotSegment),
            ("..:b", BucketNameError::DotSegment),
            ("acme:..", BucketNameError::DotSegment),
            (":.", BucketNameError::DotSegment),
        ] {
            assert_eq!(check(text, |_| false), Err(error), "{text:?}");
        }
    }
}
