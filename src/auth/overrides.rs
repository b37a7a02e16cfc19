//! Headers of an answer that the client chooses (`response-content-type` and others).
//!
//! S3 allows them to requests with a signature alone: who shares a public object could otherwise have it shown as a page of the bucket's
//! site. The gateway's own signature must not lend that right to an anonymous client.
//!
//! Source: S3 API Reference, "GetObject", "Overriding response header values through the request".

use tidegate_actors::Identity;

use super::{AuthRejection, Caller};
use crate::s3::sigv4::query::{name_of, pairs};

/// How the names of these parameters begin.
const PREFIX: &str = "response-";

/// Refuses the parameters to an anonymous client of a bucket with requests that go on signed.
pub(crate) fn check_overrides(caller: &Caller, query: &str, signs: bool) -> Result<(), AuthRejection> {
    if !signs || caller.identity != Identity::Anonymous || query.is_empty() {
        return Ok(());
    }
    let overrides = pairs(query).any(|pair| name_of(pair).to_ascii_lowercase().starts_with(PREFIX));
    if overrides { Err(AuthRejection::AnonymousOverride) } else { Ok(()) }
}
