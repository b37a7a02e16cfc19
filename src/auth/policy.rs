//! Checks an operation against a policy: the bucket, the method and, if the policy has prefixes, the keys.
//!
//! Keys are compared as bytes that are percent-decoded once, as stores decode them. A policy with prefixes denies operations on the
//! bucket itself, except reads that clients send before they start (`HeadBucket`, `GetBucketLocation` and others with `list` access). A
//! listing must have a prefix that starts with an allowed prefix. The keys of a multi-delete are checked when the body has arrived
//! (`multi_delete`).
//!
//! A store that resolves dot segments reads `public/../secret` as a key outside the prefix. So with prefixes a key with a dot segment in
//! any decoding (`s3/src/path_segments.rs`) is rejected, whatever the bucket's `injection_patterns` are.

use tidegate_config::{Access, Pattern, PolicyConfig};
use tidegate_s3::path_segments::has_dot_segment;

use crate::auth::AuthRejection;
use crate::auth::operation::{Operation, Resource};

/// Whether a policy allows an operation in the bucket `name`.
pub(super) fn allows(
    policy: &PolicyConfig,
    name: &str,
    operation: &Operation<'_>,
) -> Result<(), AuthRejection> {
    let covers = policy.prefixes.is_empty()
        || match &operation.resource {
            Resource::Key(key) => covers_key(policy, key)?,
            Resource::Listing(prefixes) => {
                let has =
                    |covers, prefix: &Vec<u8>| Ok::<_, AuthRejection>(covers && covers_key(policy, prefix)?);
                !prefixes.is_empty() && prefixes.iter().try_fold(true, has)?
            }
            Resource::Keys => true,
            Resource::Bucket => operation.access == Access::List,
        };
    if covers_bucket(policy, name) && policy.methods.contains(&operation.access) && covers {
        Ok(())
    } else {
        Err(AuthRejection::PolicyDenied(operation.access))
    }
}

/// Whether a policy names the bucket `name`.
pub(super) fn covers_bucket(policy: &PolicyConfig, name: &str) -> bool {
    policy.buckets.iter().any(|pattern| pattern.matches(name))
}

/// Whether a policy names any bucket that the pattern matches.
pub(super) fn overlaps_pattern(policy: &PolicyConfig, pattern: &Pattern) -> bool {
    policy.buckets.iter().any(|named| named.overlaps(pattern))
}

/// Whether a key, or the prefix of a listing, starts with a prefix of the policy.
pub(super) fn covers_key(policy: &PolicyConfig, key: &[u8]) -> Result<bool, AuthRejection> {
    if has_dot_segment(key) {
        return Err(AuthRejection::DotSegment);
    }
    Ok(policy.prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes())))
}

#[cfg(test)]
mod tests {
    use tidegate_config::Pattern;

    use super::*;

    fn policy(prefixes: &[&str], methods: &[Access]) -> PolicyConfig {
        PolicyConfig {
            buckets: vec![Pattern::parse("logs-*").unwrap()],
            prefixes: prefixes.iter().map(|text| (*text).to_owned()).collect(),
            methods: methods.to_vec(),
        }
    }

    fn operation(access: Access, resource: Resource<'_>) -> Operation<'_> {
        Operation::new(access, resource)
    }

    /// A5: the policy must name the bucket, the method and the prefix
    #[test]
    fn a_policy_denies_everything_that_it_does_not_name() {
        let policy = policy(&["public/"], &[Access::Read, Access::List]);
        let key = |access, key: &'static str| operation(access, Resource::Key(key.as_bytes().into()));
        assert_eq!(allows(&policy, "logs-eu", &key(Access::Read, "public/a")), Ok(()));
        for (name, operation) in [
            ("photos", key(Access::Read, "public/a")),
            ("logs-eu", key(Access::Write, "public/a")),
            ("logs-eu", key(Access::Read, "public")),
            ("logs-eu", key(Access::Read, "/public/a")),
            ("logs-eu", key(Access::Read, "secret/public/")),
        ] {
            assert_eq!(allows(&policy, name, &operation), Err(AuthRejection::PolicyDenied(operation.access)));
        }
        assert!(allows(&PolicyConfig::default(), "logs-eu", &key(Access::Read, "public/a")).is_err());
    }

    /// A5, V3, V12: a store that resolves dot segments could return a key outside the prefix
    #[test]
    fn dot_segments_are_rejected_if_a_policy_has_prefixes() {
        let read = |policy: &PolicyConfig, key: &'static str| {
            allows(policy, "logs-eu", &operation(Access::Read, Resource::Key(key.as_bytes().into())))
        };
        let below = policy(&["public/"], &[Access::Read, Access::List]);
        let all = policy(&[], &[Access::Read]);
        for key in [
            "public/../secret",
            "public/a/..",
            "public\\..\\x",
            "public/./a",
            "public/%2e%2E/x",
            "../public/",
            "public/..;/x",
            "public/.;a=b/x",
            "public/%c0%ae%c0%ae/x",
        ] {
            assert_eq!(read(&below, key), Err(AuthRejection::DotSegment), "{key}");
            assert_eq!(read(&all, key), Ok(()), "{key}");
        }
        for key in
            ["public/..name", "public/a..", "public/...", "public/.well-known", "public/a;..", "public/;.."]
        {
            assert_eq!(read(&below, key), Ok(()), "{key}");
        }
        let listing = operation(Access::List, Resource::Listing(vec![b"public/../".to_vec()]));
        assert_eq!(allows(&below, "logs-eu", &listing), Err(AuthRejection::DotSegment));
    }

    /// A5: a listing shows no key that the client could not read
    #[test]
    fn a_listing_must_start_with_an_allowed_prefix() {
        let policy = policy(&["public/"], &[Access::List]);
        let listing = |prefixes: &[&str]| {
            let prefixes = prefixes.iter().map(|text| text.as_bytes().to_vec()).collect();
            allows(&policy, "logs-eu", &operation(Access::List, Resource::Listing(prefixes))).is_ok()
        };
        assert!(listing(&["public/"]) && listing(&["public/2024/"]));
        assert!(!listing(&[]) && !listing(&[""]) && !listing(&["pub"]) && !listing(&["public/", "secret/"]));
        assert!(allows(&policy, "logs-eu", &operation(Access::List, Resource::Bucket)).is_ok());
    }
}
