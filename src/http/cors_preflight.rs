//! OPTIONS requests to a bucket (A6).
//!
//! | bucket | preflight | other OPTIONS |
//! |---|---|---|
//! | with `cors` | answered here by the rules | 400 |
//! | `s3` without `cors` | the store answers by its own rules, which `PUT ?cors` sets | 400, as S3 does |
//! | `s3` without `auth` and `cors` | 403, as every request | 400 |
//! | `http` without `cors` | 405 | 405 |
//!
//! A preflight for the store passes the level, the limits, the circuit of reads and the bucket's gate. It carries no proof of
//! identity (Fetch Standard, "CORS-preflight fetch"), so it goes on unsigned, without one of the bucket's credentials and with a
//! closed list of headers (`upstream/header_names.rs`). A presigned URL of a client key that the store knows keeps its parameters
//! but the signature. Its answer says nothing of any credential, and counts for nothing: what
//! anybody may send must not open a circuit, leave an endpoint out, or fill the gate. It is tried once.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_actors::{InFlightSlot, OperationClass};
use tidegate_config::{BucketConfig, Kind};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{self, AuthRejection, Caller};
use crate::http::authentication;
use crate::http::cors::{self, CorsRejection};
use crate::http::error::GatewayError;
use crate::http::proxy::{self, Admitted, UpstreamCall};
use crate::http::request_validation::{BodyLength, Head, RequestRejection};
use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::upstream;
use crate::upstream::PresignedQuery;
use crate::upstream::deadline::Deadline;
use crate::worker::Worker;

/// The share of a bucket's gate that preflights may take: they come without a proof, so they must not take it all.
const GATE_SHARE: usize = 10;

/// How many preflights of a bucket may be at its store at a time.
pub(crate) fn preflights_max(bucket: &BucketConfig) -> usize {
    bucket.upstream.concurrency.max_concurrent.get().div_ceil(GATE_SHARE)
}

/// A place for a preflight, held until its answer has been sent.
fn acquire_permit(bucket: &Bucket) -> Result<OwnedSemaphorePermit, CorsRejection> {
    let permit = Arc::clone(&bucket.preflight_permits).try_acquire_owned();
    permit.map_err(|_| CorsRejection::Full { limit: preflights_max(&bucket.config) })
}

/// What becomes of the parameters of a presigned URL: those of a client key that is sent to the store as itself name the store's own user.
/// The signature need not be valid. No preflight is authenticated, and the answer does not depend on it.
fn presigned_query(worker: &Worker, bucket: &Bucket, head: Head<'_>) -> PresignedQuery {
    let key = auth::presigned_key(head, &bucket.accepted_auth, &worker.shared.keyring);
    match worker.client(bucket).signs_as_client(key) {
        true => PresignedQuery::WithoutProof,
        false => PresignedQuery::Removed,
    }
}

/// Steps 5 and 6 of an OPTIONS request.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    bucket: &Bucket,
    (head, length): (Head<'_>, BodyLength),
    (slot, deadline): (InFlightSlot, Deadline),
    record: &mut Record,
) -> Result<Admitted, GatewayError> {
    if let Some(rules) = &bucket.config.cors {
        record.slot = Some(slot);
        return Ok(Admitted::Local(cors::preflight_response(rules, head.headers)?));
    }
    if bucket.config.kind != Kind::S3 {
        return Err(RequestRejection::Method.into());
    }
    cors::check_preflight(head.headers, length)?;
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::BucketClosed.into());
    }
    record.preflight = Some(acquire_permit(bucket)?);
    let class = OperationClass::Read;
    let nobody = Ok(Caller::ANONYMOUS);
    let caller = authentication::charge(worker, Some(bucket), class, nobody, record).await?;
    let is_replayable = upstream::is_replayable(head.method, length);
    let grant = proxy::acquire_grant(worker, bucket, (class, is_replayable), deadline, record).await?;
    let call = UpstreamCall {
        bucket: bucket.id,
        length,
        caller,
        declared_body: None,
        needs_screening: false,
        preflight: Some(presigned_query(worker, bucket, head)),
        slot,
        grant,
    };
    Ok(Admitted::Call(Box::new(call)))
}
