//! OPTIONS requests to a bucket (A6).
//!
//! | bucket | preflight | other OPTIONS |
//! |---|---|---|
//! | with `cors` | the gateway replies by the rules | 400 |
//! | `s3` without `cors` | the store answers by its own rules, which `PUT ?cors` sets | 400, as S3 does |
//! | `s3` without `auth` and `cors` | 403, as every request | 400 |
//! | `http` without `cors` | 405 | 405 |
//!
//! A preflight for the store passes the level, the limits, the circuit of reads and the bucket's gate. It has no
//! credentials (Fetch Standard, "CORS-preflight fetch"), so it is forwarded unsigned, without one of the bucket's
//! credentials and with a closed list of headers (`upstream/header_names.rs`). A presigned URL of a client key that
//! the store has too keeps its parameters except the signature. The response is no evidence about a credential and
//! does not count for the circuit or the endpoint, because anybody can send preflights. A preflight is sent once.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_actors::{InFlightSlot, OperationClass};
use tidegate_config::{BucketConfig, Kind};
use tidegate_s3::request::BodyLength;
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{self, AuthRejection, Caller};
use crate::http::admission::{self, Admitted, UpstreamCall};
use crate::http::authentication;
use crate::http::cors::{self, CorsRejection};
use crate::http::error::GatewayError;
use crate::http::request_validation::RequestRejection;
use crate::request_head::Head;
use crate::upstream;
use crate::upstream::PresignedQuery;
use crate::upstream::bucket::Bucket;
use crate::upstream::deadline::Deadline;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// Preflights may use one in this many permits of a bucket's gate: they are unauthenticated, so they must not fill
/// it.
const GATE_SHARE: usize = 10;

/// The most preflights of a bucket at its store at a time.
pub(crate) fn preflights_max(bucket: &BucketConfig) -> usize {
    bucket.upstream.concurrency.max_concurrent.get().div_ceil(GATE_SHARE)
}

/// Acquires a permit for a preflight, which is held until its response has been sent.
fn acquire_permit(bucket: &Bucket) -> Result<OwnedSemaphorePermit, CorsRejection> {
    let permit = Arc::clone(&bucket.preflight_permits).try_acquire_owned();
    permit.map_err(|_| CorsRejection::Full { limit: preflights_max(&bucket.config) })
}

/// Selects the parameters of a presigned URL that are forwarded: if the store has the client's key itself, the
/// parameters name a user of the store. The signature need not be valid. No preflight is authenticated, and the
/// response does not depend on it.
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
    let anonymous = Ok(Caller::ANONYMOUS);
    let caller = authentication::charge(worker, Some(bucket), class, anonymous, record).await?;
    let is_replayable = upstream::is_replayable(head.method, length);
    let grant = admission::acquire_grant(worker, bucket, (class, is_replayable), deadline, record).await?;
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
