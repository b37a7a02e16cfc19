//! Step 5 of a request (`proxy.rs`): authorizes the authenticated client.
//!
//! `auth` has the rules. A preflight has no operation: the store answers it without an effect.

use tidegate_config::Kind;

use crate::auth::{self, AuthRejection, Caller, NamedBucket};
use crate::http::route::{BucketRequest, RequestKind};
use crate::worker::Worker;

/// Authorizes a request, and returns whether its body lists keys that must be checked against the caller's policy.
pub(super) fn authorize(
    worker: &Worker,
    request: &BucketRequest<'_>,
    caller: &Caller,
) -> Result<bool, AuthRejection> {
    let BucketRequest { kind, bucket, name, head, bytes, query, operation, .. } = request;
    if *kind == RequestKind::Options {
        return Ok(false);
    }
    let (router, keyring) = (&worker.shared.router, &worker.shared.keyring);
    let routes_here = |name: &str| router.routes_to(name, bucket.id);
    let named = NamedBucket { auth: bucket.auth(), name, routes_here: &routes_here };
    auth::authorize(caller, named, *head, operation, keyring)?;
    if bucket.config.kind == Kind::S3 {
        let is_signed = worker.client(bucket).signs(caller.key(), &bucket.credentials);
        auth::check_overrides(caller, query, is_signed, &bucket.config.anonymous)?;
    }
    auth::needs_delete_key_check(caller, operation, *head, *bytes, keyring)
}
