//! The priority of a request in a bucket's queue: its key's, else that of its operation in this bucket.
//!
//! Clients cannot set it by a header, because all would send the highest. Requests with tokens have the priority of
//! the operation.

use tidegate_actors::{ClientIdentity, OperationClass};
use tidegate_config::Priority;

use crate::auth::Keyring;
use crate::upstream::bucket::Bucket;

/// The priority of a caller's request.
pub(super) fn of(
    caller: Option<&ClientIdentity>,
    class: OperationClass,
    bucket: &Bucket,
    keyring: &Keyring,
) -> Priority {
    let of_key = match caller {
        Some(ClientIdentity::Key(id)) => keyring.priority(*id),
        Some(ClientIdentity::Anonymous | ClientIdentity::Token(_)) | None => None,
    };
    of_key.unwrap_or_else(|| of_operation(class, bucket))
}

/// The priority of an operation in a bucket.
pub(super) fn of_operation(class: OperationClass, bucket: &Bucket) -> Priority {
    class.priority(&bucket.config.upstream.concurrency.priority)
}
