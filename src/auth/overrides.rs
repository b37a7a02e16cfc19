//! Parameters that override headers of a response (`response-content-type` and others).
//!
//! S3 accepts them in signed requests only. Otherwise anybody could make a link that shows a public object as a page of the bucket's
//! site. The gateway signs the requests of anonymous clients towards the store, so it must reject these parameters itself. In a bucket in
//! which anonymous clients may do everything, they can store such a page anyway, so the gateway rejects nothing there.
//!
//! Source: S3 API Reference, "GetObject", "Overriding response header values through the request".

use tidegate_actors::ClientIdentity;
use tidegate_config::Access;
use tidegate_s3::sigv4::query::{decoded_name, pairs};

use super::{AuthRejection, Caller};

/// The prefix of the parameters' names.
const PREFIX: &str = "response-";

/// Rejects the parameters from an anonymous client, if the gateway signs the request and the bucket does not grant every access to
/// anonymous clients.
pub(crate) fn check_overrides(
    caller: &Caller,
    query: &str,
    is_signed: bool,
    granted: &[Access],
) -> Result<(), AuthRejection> {
    let is_open = Access::ALL.iter().all(|access| granted.contains(access));
    if !is_signed || is_open || caller.identity != ClientIdentity::Anonymous || query.is_empty() {
        return Ok(());
    }
    let has_override = pairs(query).any(|pair| decoded_name(pair).to_ascii_lowercase().starts_with(PREFIX));
    if has_override { Err(AuthRejection::AnonymousOverride) } else { Ok(()) }
}
