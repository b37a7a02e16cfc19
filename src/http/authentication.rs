//! Step 5 of a request's way: who asks, and whom that costs.
//!
//! An answer to "who" is charged to somebody: to the key it turned out to be, or, failing, to the address that offered
//! the proof. Asking is refused before any proof is looked at to an address that failed too often, so that guessing
//! keys costs the guesser and not the gateway. Deliberately absent: what the caller may do, which `auth` decides.

use tidegate_actors::{ClientIdentity, IpKey, LimitScope, OperationClass};

use crate::auth::{Caller, authenticate, authenticate_bucket_list};
use crate::http::error::GatewayError;
use crate::http::request_validation::Head;
use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// Who asks: a client over its limit of failures is not listened to, a failure is charged to it (L8), a request to the
/// key that signed it or the subject of its token (L1). With no bucket, who asks for their list.
pub(super) async fn authenticate_and_charge(
    worker: &Worker,
    bucket: Option<&Bucket>,
    class: OperationClass,
    head: Head<'_>,
    record: &mut Record,
) -> Result<Caller, GatewayError> {
    let proofs = bucket.map_or(worker.shared.router.accepted_auth(), |bucket| &bucket.accepted_auth);
    if proofs.has_presented_auth(head) {
        may_authenticate(worker, bucket, record)?;
    }
    let authenticated = match bucket {
        Some(bucket) => authenticate(head, bucket, worker).await,
        None => authenticate_bucket_list(head, worker).await,
    };
    charge(worker, bucket, class, authenticated.map_err(GatewayError::from), record).await
}

pub(super) fn may_authenticate(
    worker: &Worker,
    bucket: Option<&Bucket>,
    record: &mut Record,
) -> Result<(), GatewayError> {
    let Some(client) = record.request.client else { return Ok(()) };
    let id = bucket.map(|bucket| bucket.id);
    let limiter = &worker.shared.actors.limiter;
    let allowed = limiter.check_auth_lockout(IpKey::from(client.address), id, record.started)?;
    record.allowed = record.allowed.merge(allowed);
    Ok(())
}

/// Charges the client, or the key or subject that it turned out to be.
pub(super) async fn charge(
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
                record.client_ticket = worker.shared.actors.monitor.acquire_client_ticket(client).await?;
            }
            let allowed = match &caller.identity {
                ClientIdentity::Key(key) => limiter.admit_key(*key, id, class).await?,
                ClientIdentity::Token(bearer) => {
                    limiter.admit_subject(bearer.subject.as_deref(), id, class).await?
                }
                ClientIdentity::Anonymous => return Ok(caller),
            };
            record.allowed = record.allowed.merge(allowed);
            Ok(caller)
        }
        Err(error) => {
            let is_suspect =
                matches!(&error, GatewayError::Auth(rejection) if rejection.counts_toward_lockout());
            // Who is listened to only because the limit is in shadow mode would not have been charged either.
            let is_charged = is_suspect && !record.allowed.shadowed.contains(LimitScope::FailedAuth);
            if let Some(client) = record.request.client.filter(|_| is_charged) {
                let allowed = limiter.charge_auth_failure(IpKey::from(client.address), id).await?;
                record.allowed = record.allowed.merge(allowed);
            }
            Err(error)
        }
    }
}
