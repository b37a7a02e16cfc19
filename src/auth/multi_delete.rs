//! Several objects deleted by one request: its body lists them, and a policy with prefixes is checked for every key.
//!
//! Only then is the body read before it is forwarded, up to `delete_list::BYTES_MAX`. It has been taken out of its `aws-chunked`
//! framing and verified by then. Objects that the policy does not allow are taken out of the list
//! (`s3/delete_list.rs`), and the answer reports each of them (E5), as S3 does.

use bytes::Bytes;
use tidegate_config::Access;

use crate::auth::operation::Resource;
use crate::auth::{AuthRejection, Caller, Keyring, Operation, policy};
use crate::http::request_validation::Head;
use crate::s3::delete_list::{BYTES_MAX, DeleteList};
use crate::s3::delete_result::error_element;
use crate::s3::sigv4::query::{decoded_name, pairs};
use crate::s3::xml;

/// S3's bound on the objects of one request. A longer list must not become a shorter one that the store accepts.
const OBJECTS_MAX: usize = 1000;

/// Whether the body lists keys that must be checked against the caller's policy; `bytes` is the length that the head announces.
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
    xml::check_media_type(head.headers).map_err(DeleteListRejection::Malformed)?;
    if bytes.is_some_and(|bytes| bytes <= BYTES_MAX) {
        Ok(true)
    } else {
        Err(DeleteListRejection::Length.into())
    }
}

/// Why a list of keys to delete cannot be checked or shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeleteListRejection {
    /// It is malformed, or could be read in another way.
    Malformed(&'static str),
    /// It has no announced length, or is too long to be read.
    Length,
    /// The policy denies some of its keys, and its presigned query has a signed checksum of the whole list.
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
        /// How many objects the policy denies, and how many were listed.
        counts: (usize, usize),
    },
    /// The policy allows none of them. There is an error element for each.
    Denied(String),
}

/// Checks the keys that the body lists.
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
    let screened = remove_denied(&list, is_allowed)?;
    // The store would verify a checksum of the whole list against the reduced one.
    if matches!(screened, CheckedDeleteList::Reduced { .. }) && has_checksum_in_query(head) {
        return Err(DeleteListRejection::Checksum.into());
    }
    Ok(screened)
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

/// Whether a presigned query carries a checksum of the body, which is the store's to verify.
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
    DeleteList::parse(body).map(|list| list.objects.into_iter().map(|object| object.key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screened(keys: &[&str]) -> Result<CheckedDeleteList, AuthRejection> {
        let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        let document = format!("<Delete>{objects}</Delete>");
        let list = DeleteList::parse(document.as_bytes()).unwrap();
        remove_denied(&list, |key| key.starts_with("public/"))
    }

    /// A5, E5: a list is passed as it is, reduced, or answered without the store
    #[test]
    fn a_list_is_split_by_the_policy() {
        assert_eq!(screened(&[]), Ok(CheckedDeleteList::Allowed));
        assert_eq!(screened(&["public/a", "public/a"]), Ok(CheckedDeleteList::Allowed));
        let Ok(CheckedDeleteList::Reduced { document, errors, counts }) =
            screened(&["x", "public/a", "x", "public/&lt;"])
        else {
            panic!("the list is not reduced");
        };
        let kept = "<Object><Key>public/a</Key></Object><Object><Key>public/&lt;</Key></Object>";
        assert_eq!(document, format!("<Delete>{kept}</Delete>"));
        assert_eq!((errors.matches("<Key>x</Key>").count(), counts), (2, (2, 4)));
        let Ok(CheckedDeleteList::Denied(errors)) = screened(&["x", "y"]) else {
            panic!("something is allowed")
        };
        assert_eq!(errors.matches("<Code>AccessDenied</Code>").count(), 2);
    }

    /// E5: a list that S3 refuses for its length is not made shorter
    #[test]
    fn a_list_over_a_thousand_objects_is_not_reduced() {
        let mut keys = vec!["public/a"; 1000];
        assert_eq!(screened(&keys), Ok(CheckedDeleteList::Allowed));
        keys[7] = "x";
        assert!(matches!(screened(&keys), Ok(CheckedDeleteList::Reduced { .. })));
        keys.push("public/b");
        assert!(matches!(
            screened(&keys),
            Err(AuthRejection::InvalidDeleteList(DeleteListRejection::Malformed(_)))
        ));
    }
}
