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
//! credentials and with a closed list of headers (`upstream/headers/names.rs`). A presigned URL of a client key that
//! the store has too keeps its parameters except the signature. The response is no evidence about a credential and
//! does not count for the circuit or the endpoint, because anybody can send preflights.
//! A preflight reaches a store at most once (`upstream/attempt/call.rs`).

use std::sync::Arc;

use actix_web::HttpResponse;
use tidegate_actors::InFlightSlot;
use tidegate_config::{BucketConfig, Kind};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{self, AuthRejection};
use crate::http::cors::{self, CorsRejection};
use crate::http::error::GatewayError;
use crate::http::request_validation::RequestRejection;
use crate::http::route::BucketRequest;
use crate::request_head::Head;
use crate::upstream::PresignedQuery;
use crate::upstream::bucket::Bucket;
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

/// Who answers a preflight.
pub(super) enum Preflight {
    /// The gateway, by the bucket's rules.
    Local(HttpResponse),
    /// The store.
    Forward(PresignedQuery),
}

/// Checks an OPTIONS request: the reply by the bucket's rules, or none for a preflight that the store answers.
pub(super) fn check(request: &BucketRequest<'_>) -> Result<Option<HttpResponse>, GatewayError> {
    let BucketRequest { bucket, head, length, .. } = request;
    if let Some(rules) = &bucket.config.cors {
        return Ok(Some(cors::preflight_response(rules, head.headers)?));
    }
    if bucket.config.kind != Kind::S3 {
        return Err(RequestRejection::Method.into());
    }
    cors::check_preflight(head.headers, *length)?;
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::BucketClosed.into());
    }
    Ok(None)
}

/// Step 5 of an OPTIONS request: refuses it, answers it by the bucket's rules, or acquires a permit to forward it. A
/// reply by the rules holds the slot until its end.
pub(super) fn accept(
    worker: &Worker,
    request: &BucketRequest<'_>,
    slot: &mut Option<InFlightSlot>,
    record: &mut Record,
) -> Result<Preflight, GatewayError> {
    let BucketRequest { bucket, head, .. } = request;
    if bucket.config.cors.is_some() {
        record.slot = slot.take();
    }
    if let Some(reply) = check(request)? {
        return Ok(Preflight::Local(reply));
    }
    record.preflight = Some(acquire_permit(bucket)?);
    Ok(Preflight::Forward(presigned_query(worker, bucket, *head)))
}
