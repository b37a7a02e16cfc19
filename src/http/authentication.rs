//! Step 5 of a request (`proxy.rs`): authenticates the client and charges its limits.
//!
//! A request is charged to the key or subject that it authenticates as. A failed authentication is charged to the
//! client's address. An address with too many failures is refused before its credentials are verified, so guessing
//! keys costs the gateway nothing. This module does not authorize; `authorization.rs` does.

use tidegate_actors::{ClientAdmission, ClientIdentity, IpKey, LimitScope, OperationClass};
use tidegate_s3::form::fields::FormFields;

use crate::auth::{Caller, authenticate, authenticate_bucket_list, authenticate_form};
use crate::http::error::GatewayError;
use crate::http::shadow::{add_allowed, record_shadowed};
use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// Where a request has its client's authentication.
#[derive(Clone, Copy)]
pub(super) enum AuthLocation<'a> {
    /// In the head of a request to a bucket.
    Head(&'a Bucket, Head<'a>),
    /// In the fields of a form. The lockout was checked before they were read.
    Fields(&'a Bucket, &'a FormFields),
    /// Nowhere: a preflight to a bucket has none.
    Absent(&'a Bucket),
    /// In the head of a request for the list of buckets.
    BucketList(Head<'a>),
}

impl<'a> AuthLocation<'a> {
    fn bucket(self) -> Option<&'a Bucket> {
        match self {
            Self::Head(bucket, _) | Self::Fields(bucket, _) | Self::Absent(bucket) => Some(bucket),
            Self::BucketList(_) => None,
        }
    }
}

/// Authenticates a request. An address over its limit of failures is refused, a failure is charged to the address
/// (L8), a success to the key that signed it or the subject of its token (L1).
pub(super) async fn authenticate_and_charge(
    worker: &Worker,
    location: AuthLocation<'_>,
    class: OperationClass,
    record: &mut Record,
) -> Result<Caller, GatewayError> {
    let (bucket, context) = (location.bucket(), worker.auth_context());
    let authenticated = match location {
        AuthLocation::Head(bucket, head) => {
            if bucket.accepted_auth.has_presented_auth(head) {
                check_lockout(worker, Some(bucket), record)?;
            }
            authenticate(head, bucket.auth(), context).await.map_err(GatewayError::from)
        }
        // Rare paths are boxed, so that the state of an ordinary request stays small.
        AuthLocation::Fields(bucket, fields) => {
            Box::pin(authenticate_form(fields, bucket.auth(), context)).await.map_err(GatewayError::from)
        }
        AuthLocation::Absent(_) => Ok(Caller::ANONYMOUS),
        AuthLocation::BucketList(head) => {
            let accepted_auth = worker.shared.router.accepted_auth();
            if accepted_auth.has_presented_auth(head) {
                check_lockout(worker, None, record)?;
            }
            Box::pin(authenticate_bucket_list(head, accepted_auth, context)).await.map_err(GatewayError::from)
        }
    };
    charge(worker, bucket, class, authenticated, record).await
}

/// Refuses an address over its limit of failed authentications.
pub(super) fn check_lockout(
    worker: &Worker,
    bucket: Option<&Bucket>,
    record: &mut Record,
) -> Result<(), GatewayError> {
    let Some(client) = record.request.client else { return Ok(()) };
    let id = bucket.map(|bucket| bucket.id);
    let limiter = &worker.shared.actors.limiter;
    let allowed = limiter.check_auth_lockout(IpKey::from(client.address), id, record.started)?;
    add_allowed(worker, allowed, record);
    Ok(())
}

/// Charges the key or subject of an authenticated client, or the address of one that failed.
async fn charge(
    worker: &Worker,
    bucket: Option<&Bucket>,
    class: OperationClass,
    authenticated: Result<Caller, GatewayError>,
    record: &mut Record,
) -> Result<Caller, GatewayError> {
    let limiter = &worker.shared.actors.limiter;
    let id = bucket.map(|bucket| bucket.id);
    match authenticated {
        Ok(caller) => {
            record.caller = Some(caller.identity.clone());
            if let Some(client) = record.client_id() {
                match worker.shared.actors.monitor.acquire_client_ticket(client).await? {
                    ClientAdmission::Unlimited => {}
                    ClientAdmission::Counted(ticket) => record.client_ticket = Some(ticket),
                    ClientAdmission::Shadowed(refusal) => record_shadowed(worker, refusal, record),
                }
            }
            let allowed = match &caller.identity {
                ClientIdentity::Key(key) => limiter.admit_key(*key, id, class).await?,
                ClientIdentity::Token(bearer) => {
                    limiter.admit_subject(bearer.subject.as_deref(), id, class).await?
                }
                ClientIdentity::Anonymous => return Ok(caller),
            };
            add_allowed(worker, allowed, record);
            Ok(caller)
        }
        Err(error) => {
            let is_suspect =
                matches!(&error, GatewayError::Auth(rejection) if rejection.counts_toward_lockout());
            // An address that passes its lockout only because the limit is in shadow mode is not charged.
            let is_charged = is_suspect && !record.allowed.shadowed_scopes().contains(LimitScope::FailedAuth);
            if let Some(client) = record.request.client.filter(|_| is_charged) {
                let allowed = limiter.charge_auth_failure(IpKey::from(client.address), id).await?;
                add_allowed(worker, allowed, record);
            }
            Err(error)
        }
    }
}
