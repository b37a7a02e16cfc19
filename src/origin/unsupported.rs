//! Refuses features that the origin does not support with 501, instead of ignoring them.
//!
//! The server library answers an operation without a method in `api.rs` with 501. This module checks the headers of supported operations
//! that request unsupported features.

use s3s::{S3Result, s3_error};
use tidegate_s3::OWNER_ONLY_ACLS;

/// Refuses an input with one of the fields set.
macro_rules! refuse_set {
    ($input:expr, $($field:ident),+ $(,)?) => {
        $(if $input.$field.is_some() {
            return Err($crate::origin::unsupported::not_implemented(stringify!($field)));
        })+
    };
}

/// Refuses unsupported features of a write: encryption, object locks, ACLs, other storage classes.
macro_rules! refuse_extras {
    ($input:expr) => {
        $crate::origin::unsupported::refuse_set!(
            $input,
            grant_full_control,
            grant_read,
            grant_read_acp,
            grant_write_acp,
            object_lock_legal_hold_status,
            object_lock_mode,
            object_lock_retain_until_date,
            server_side_encryption,
            sse_customer_algorithm,
            ssekms_key_id,
        );
        $crate::origin::unsupported::check_acl($input.acl.as_ref().map(|acl| acl.as_str()))?;
        $crate::origin::unsupported::check_storage_class(
            $input.storage_class.as_ref().map(|class| class.as_str()),
        )?;
    };
}

pub(super) use {refuse_extras, refuse_set};

pub(super) fn not_implemented(what: &str) -> s3s::S3Error {
    s3_error!(NotImplemented, "the embedded origin does not support {what}")
}

pub(super) fn check_acl(acl: Option<&str>) -> S3Result<()> {
    match acl {
        Some(acl) if !OWNER_ONLY_ACLS.contains(&acl) => Err(not_implemented("acl")),
        _ => Ok(()),
    }
}

pub(super) fn check_storage_class(class: Option<&str>) -> S3Result<()> {
    match class {
        None | Some("STANDARD" | "REDUCED_REDUNDANCY") => Ok(()),
        Some(_) => {
            Err(s3_error!(InvalidStorageClass, "the embedded origin has only the storage class STANDARD"))
        }
    }
}

/// Without versioning, each object has the version `null`.
pub(super) fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NoSuchVersion, "the specified version does not exist")),
    }
}
