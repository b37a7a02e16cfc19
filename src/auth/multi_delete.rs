//! Checks the keys of a multi-delete (`DeleteObjects`) against a policy with prefixes.
//!
//! The gateway reads the body before it forwards it only if the policy has prefixes, up to `delete_list::BYTES_MAX`. The body is already
//! decoded from `aws-chunked` and verified. Objects that the policy does not allow are removed from the list (`s3/src/delete_list.rs`). The
//! response has an error for each of them (E5), as S3's has.

use bytes::Bytes;
use tidegate_config::Access;
use tidegate_s3::delete_list::{BYTES_MAX, DeleteList};
use tidegate_s3::delete_result::error_element;
use tidegate_s3::sigv4::query::{decoded_name, pairs};
use tidegate_s3::xml;

use crate::auth::operation::Resource;
use crate::auth::{AuthRejection, Caller, Keyring, Operation, policy};
use crate::request_head::Head;

/// S3's limit on the objects of one request. A longer list is not reduced, because the store could accept the reduced list.
const OBJECTS_MAX: usize = 1000;

/// Whether the body lists keys that must be checked against the caller's policy. `bytes` is the declared length of the body.
pub(crate) fn needs_delete_key_check(
    caller: &Caller,
    operation: &Operation<'_>,
    head: Head<'_>,
    bytes: Option<u64>,
    keyring: &Keyring,
) -> Result<bool, AuthRejection> {
    let has_prefixes = caller.policy(keyring).is_some_and(|policy| !policy.prefixes.is_empty());
    if !has_prefixes || operation.resource != Resource::Keys {
        return Ok(false);
    }
    xml::check_media_type(head.header_view()).map_err(DeleteListRejection::Malformed)?;
    if bytes.is_some_and(|bytes| bytes <= BYTES_MAX) {
        Ok(true)
    } else {
        Err(DeleteListRejection::Length.into())
    }
}

/// Why a list of keys to delete cannot be checked or reduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeleteListRejection {
    /// It is malformed, or XML readers disagree on its meaning.
    Malformed(&'static str),
    /// It has no declared length, or is longer than `BYTES_MAX`.
    Length,
    /// The policy denies some of its keys, and the presigned query has a signed checksum of the whole list.
    Checksum,
}

impl From<DeleteListRejection> for AuthRejection {
    fn from(rejection: DeleteListRejection) -> Self {
        Self::InvalidDeleteList(rejection)
    }
}

/// A list of objects to delete, checked against a policy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CheckedDeleteList {
    /// The policy allows all of them.
    Allowed,
    /// The policy allows some of them.
    Reduced {
        /// The list without the others.
        document: Bytes,
        /// An error element for each of the others.
        errors: String,
        /// The number of denied objects, and of all objects in the list.
        counts: (usize, usize),
    },
    /// The policy allows none of them. There is an error element for each.
    Denied(String),
}

/// Checks each key of the body against the policy.
pub(crate) fn check_delete_keys(
    caller: &Caller,
    head: Head<'_>,
    body: Option<&Bytes>,
    keyring: &Keyring,
) -> Result<CheckedDeleteList, AuthRejection> {
    let policy = caller.policy(keyring).ok_or(AuthRejection::PolicyDenied(Access::Delete))?;
    let list = DeleteList::parse(body.ok_or(DeleteListRejection::Length)?)
        .map_err(DeleteListRejection::Malformed)?;
    let is_allowed = |key: &str| policy::covers_key(policy, key.as_bytes()).unwrap_or(false);
    let checked = remove_denied(&list, is_allowed)?;
    // The store would compare the checksum of the whole list with the reduced list, and fail.
    if matches!(checked, CheckedDeleteList::Reduced { .. }) && has_checksum_in_query(head) {
        return Err(DeleteListRejection::Checksum.into());
    }
    Ok(checked)
}

fn remove_denied(
    list: &DeleteList<'_>,
    is_allowed: impl Fn(&str) -> bool,
) -> Result<CheckedDeleteList, AuthRejection> {
    let objects = &list.objects;
    let denied: Vec<bool> = objects.iter().map(|object| !is_allowed(&object.key)).collect();
    let count = denied.iter().filter(|is_denied| **is_denied).count();
    if count == 0 {
        return Ok(CheckedDeleteList::Allowed);
    }
    if objects.len() > OBJECTS_MAX {
        return Err(DeleteListRejection::Malformed("it has more than 1000 objects").into());
    }
    let of_denied = objects.iter().zip(&denied).filter(|(_, is_denied)| **is_denied);
    let errors = of_denied.map(|(object, _)| error_element(object)).collect();
    if count == objects.len() {
        return Ok(CheckedDeleteList::Denied(errors));
    }
    let document = list.without(|at| denied.get(at).copied().unwrap_or(false)).into();
    Ok(CheckedDeleteList::Reduced { document, errors, counts: (count, objects.len()) })
}

/// Whether a presigned query has a checksum of the body. The store verifies it.
fn has_checksum_in_query(head: Head<'_>) -> bool {
    let is_checksum = |pair: &str| {
        let name = decoded_name(pair).to_ascii_lowercase();
        name.starts_with("x-amz-checksum-") || name == "content-md5"
    };
    pairs(head.uri.query().unwrap_or_default()).any(is_checksum)
}

/// The keys of the body of a multi-delete.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parse_keys(body: &[u8]) -> Result<Vec<String>, &'static str> {
    DeleteList::parse(body)
        .map(|list| list.objects.into_iter().map(|object| object.key.into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(keys: &[&str]) -> Result<CheckedDeleteList, AuthRejection> {
        let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        let document = format!("<Delete>{objects}</Delete>");
        let list = DeleteList::parse(document.as_bytes()).unwrap();
        remove_denied(&list, |key| key.starts_with("public/"))
    }

    /// A5, E5: a list is forwarded unchanged, reduced, or answered without the store
    #[test]
    fn a_list_is_split_by_the_policy() {
        assert_eq!(checked(&[]), Ok(CheckedDeleteList::Allowed));
        assert_eq!(checked(&["public/a", "public/a"]), Ok(CheckedDeleteList::Allowed));
        let Ok(CheckedDeleteList::Reduced { document, errors, counts }) =
            checked(&["x", "public/a", "x", "public/&lt;"])
        else {
            panic!("the list is not reduced");
        };
        let kept = "<Object><Key>public/a</Key></Object><Object><Key>public/&lt;</Key></Object>";
        assert_eq!(document, format!("<Delete>{kept}</Delete>"));
        assert_eq!((errors.matches("<Key>x</Key>").count(), counts), (2, (2, 4)));
        let Ok(CheckedDeleteList::Denied(errors)) = checked(&["x", "y"]) else {
            panic!("something is allowed")
        };
        assert_eq!(errors.matches("<Code>AccessDenied</Code>").count(), 2);
    }

    /// E5: a list that S3 rejects for its length is not reduced
    #[test]
    fn a_list_over_a_thousand_objects_is_not_reduced() {
        let mut keys = vec!["public/a"; 1000];
        assert_eq!(checked(&keys), Ok(CheckedDeleteList::Allowed));
        keys[7] = "x";
        assert!(matches!(checked(&keys), Ok(CheckedDeleteList::Reduced { .. })));
        keys.push("public/b");
        assert!(matches!(
            checked(&keys),
            Err(AuthRejection::InvalidDeleteList(DeleteListRejection::Malformed(_)))
        ));
    }
}
