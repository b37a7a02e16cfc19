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

use tidegate_actors::{OperationClass, Slot};
use tidegate_config::{BucketConfig, Kind};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{self, AuthRejection, Caller};
use crate::http::cors::{self, CorsRejection};
use crate::http::edge::{BodyLength, EdgeRejection, Head};
use crate::http::error::GatewayError;
use crate::http::introduce;
use crate::http::proxy::{self, Admitted, Call};
use crate::router::Bucket;
use crate::telemetry::record::Record;
use crate::upstream;
use crate::upstream::PresignedQuery;
use crate::upstream::deadline::Deadline;
use crate::worker::Worker;

/// The share of a bucket's gate that preflights may take: they come without a proof, so they must not take it all.
const GATE_SHARE: usize = 10;

/// How many preflights of a bucket may be at its store at a time.
pub(crate) fn places(bucket: &BucketConfig) -> usize {
    bucket.upstream.concurrency.max_concurrent.get().div_ceil(GATE_SHARE)
}

/// A place for a preflight, held until its answer has been sent.
fn place(bucket: &Bucket) -> Result<OwnedSemaphorePermit, CorsRejection> {
    let taken = Arc::clone(&bucket.preflights).try_acquire_owned();
    taken.map_err(|_| CorsRejection::Full { limit: places(&bucket.config) })
}

/// What becomes of the parameters of a presigned URL: those of a client key that is sent to the store as itself name the store's own user.
/// The signature need not be valid. No preflight is authenticated, and the answer does not depend on it.
fn presigned_query(worker: &Worker, bucket: &Bucket, head: Head<'_>) -> PresignedQuery {
    let key = auth::presigned_key(head, &bucket.proofs, &worker.shared.keyring);
    match worker.client(bucket).is_own(key) {
        true => PresignedQuery::WithoutProof,
        false => PresignedQuery::Removed,
    }
}

/// Steps 5 and 6 of an OPTIONS request.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    bucket: &Bucket,
    (head, length): (Head<'_>, BodyLength),
    (slot, deadline): (Slot, Deadline),
    record: &mut Record,
) -> Result<Admitted, GatewayError> {
    if let Some(rules) = &bucket.config.cors {
        record.slot = Some(slot);
        return Ok(Admitted::Own(cors::preflight(rules, head.headers)?));
    }
    if bucket.config.kind != Kind::S3 {
        return Err(EdgeRejection::Method.into());
    }
    cors::check_preflight(head.headers, length)?;
    if bucket.config.auth.is_empty() {
        return Err(AuthRejection::Closed.into());
    }
    record.preflight = Some(place(bucket)?);
    let class = OperationClass::Read;
    let nobody = Ok(Caller::ANONYMOUS);
    let caller = introduce::settle(worker, Some(bucket), class, nobody, record).await?;
    let is_patient = upstream::is_patient(head.method, length);
    let leave = proxy::reserve(worker, bucket, (class, is_patient), deadline, record).await?;
    let call = Call {
        bucket: bucket.id,
        length,
        caller,
        declared: None,
        screens: false,
        preflight: Some(presigned_query(worker, bucket, head)),
        slot,
        leave,
    };
    Ok(Admitted::Call(Box::new(call)))
}
