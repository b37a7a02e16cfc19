//! Which class of a bucket's queue a request waits in: its key's, else that of its operation in this bucket.
//!
//! Deliberately absent: a header by which clients say so themselves; all would be urgent. Tokens have the class of the operation.

use tidegate_actors::{ClientIdentity, OperationClass};
use tidegate_config::Priority;

use crate::auth::Keyring;
use crate::router::Bucket;

/// How urgent a caller's request is.
pub(super) fn of(
    caller: Option<&ClientIdentity>,
    class: OperationClass,
    bucket: &Bucket,
    keyring: &Keyring,
) -> Priority {
    let own = match caller {
        Some(ClientIdentity::Key(id)) => keyring.priority(*id),
        Some(ClientIdentity::Anonymous | ClientIdentity::Token(_)) | None => None,
    };
    let of_bucket = &bucket.config.upstream.concurrency.priority;
    own.unwrap_or(match class {
        OperationClass::Read => of_bucket.read,
        OperationClass::Write => of_bucket.write,
        OperationClass::List => of_bucket.list,
    })
}
