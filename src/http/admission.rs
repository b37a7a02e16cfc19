//! Steps 1 to 6 of a request (`proxy.rs`): everything that can refuse it by its head.
//!
//! `form.rs`, `cors_preflight.rs` and `bucket_list/` use parts of it. Nothing here reads a body or calls an upstream.

use std::rc::Rc;

use actix_web::HttpResponse;
use actix_web::http::{Method, Uri};
use slog::warn;
use tidegate_actors::{BucketId, InFlightSlot, IpKey, OperationClass, clock};
use tidegate_config::Kind;
use tidegate_s3::addressing;
use tidegate_s3::addressing::NamedResource;
use tidegate_s3::request::BodyLength;
use tidegate_s3::upload::declared_body::{DeclaredBody, object_bytes};

use crate::auth::{self, Caller, Operation, authorize};
use crate::http::authentication::authenticate_and_charge;
use crate::http::error::GatewayError;
use crate::http::form::{self, PendingForm};
use crate::http::request_validation::{self, RequestRejection};
use crate::http::{bucket_list, cors, cors_preflight, injection, priority};
use crate::request_head::Head;
use crate::router::RouteRejection;
use crate::upstream::bucket::Bucket;
use crate::upstream::deadline::Deadline;
use crate::upstream::record::Record;
use crate::upstream::{self, PresignedQuery, RegionHeader, UpstreamGrant};
use crate::worker::Worker;

/// The result of admission, before the body is read.
pub(super) enum Admitted {
    /// A call of a bucket's upstream.
    Call(Box<UpstreamCall>),
    /// A form, which is admitted after its fields were read.
    Form(Box<PendingForm>),
    /// A local reply: the list of buckets, or the reply to a preflight.
    Local(HttpResponse),
}

/// A call of a bucket's upstream, with its slot and permit.
pub(super) struct UpstreamCall {
    pub(super) bucket: BucketId,
    pub(super) length: BodyLength,
    pub(super) caller: Caller,
    /// The body that the head declares.
    pub(super) declared_body: Option<DeclaredBody>,
    /// Whether the body lists keys that must be checked against the caller's policy.
    pub(super) needs_screening: bool,
    /// For a CORS preflight for the store: which parameters of a presigned URL are forwarded.
    pub(super) preflight: Option<PresignedQuery>,
    pub(super) slot: InFlightSlot,
    pub(super) grant: UpstreamGrant,
}

/// Steps 1 to 6: everything that can refuse a request by its head.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    head: Head<'_>,
    record: &mut Record,
) -> Result<Admitted, GatewayError> {
    let shared = &worker.shared;

    // 1 validate, 2 route
    let length = match request_validation::validate(head, &shared.config.server.limits) {
        Ok(length) => length,
        Err(rejection) => return Err(reject_invalid(worker, rejection, head, record).await),
    };
    let named = addressing::resolve(head, &shared.config.server.base_domains);
    let bucket = match shared.router.route(&named.bucket) {
        Ok(bucket) => bucket,
        // Boxed like other rare paths, so that the state of a common request stays small.
        Err(rejection) => return Box::pin(unrouted(worker, rejection, head, record)).await,
    };
    record.region = RegionHeader::for_request(head, bucket, &named);
    record.set_bucket(bucket, &named);
    let NamedResource { bucket: name, key: rest, .. } = named;
    record.cors =
        bucket.config.cors.as_ref().map(|rules| cors::headers_for(rules, head.method, head.headers));

    // 3 monitor, 4 limiter
    let query = bucket.accepted_auth.strip_query(head.uri.query().unwrap_or_default());
    let operation = Operation::from_request(head, &query, bucket.config.kind, rest);
    let is_options = *head.method == Method::OPTIONS;
    let class = if is_options { OperationClass::Read } else { operation.class() };
    // A form acquires its slot after its signature is verified.
    let slot = match form::is_form(head, bucket, rest) {
        true => {
            shared.actors.monitor.check_level()?;
            None
        }
        false => Some(shared.actors.monitor.acquire_slot()?),
    };
    charge_limits(worker, bucket, class, record).await?;

    // the bucket's validation
    let bytes = body_size(head, length, bucket.config.kind);
    request_validation::validate_for_bucket(
        head,
        bytes,
        bucket.config.max_uri_length,
        bucket.config.max_request_size,
    )?;
    check_injection(worker, bucket, head.uri, record)?;
    let deadline = request_validation::request_deadline(head, bucket, record.started)?;

    // 5 auth
    let Some(slot) = slot else {
        let pending = Box::pin(form::admit(worker, bucket, (head, length), deadline, record)).await?;
        return Ok(Admitted::Form(Box::new(pending)));
    };
    if is_options {
        return Box::pin(cors_preflight::admit(worker, bucket, (head, length), (slot, deadline), record))
            .await;
    }
    let caller = authenticate_and_charge(worker, Some(bucket), class, head, record).await?;
    authorize(&caller, (bucket.auth(), &name), head, &operation, shared.authorization(bucket.id))?;
    let signs = worker.client(bucket).signs(caller.key(), &bucket.credentials);
    if bucket.config.kind == Kind::S3 {
        auth::check_overrides(&caller, &query, signs, &bucket.config.anonymous)?;
    }
    let needs_screening = auth::needs_delete_key_check(&caller, &operation, head, bytes, &shared.keyring)?;
    let declared = upstream::declared_body(head, length, bucket.config.kind, &caller)?;

    // 6 breaker's published state, pool
    let is_replayable = upstream::is_replayable(head.method, length);
    let grant = acquire_grant(worker, bucket, (class, is_replayable), deadline, record).await?;
    let call = UpstreamCall {
        bucket: bucket.id,
        length,
        caller,
        declared_body: declared,
        needs_screening,
        preflight: None,
        slot,
        grant,
    };
    Ok(Admitted::Call(Box::new(call)))
}

/// The size of the body, as far as the head declares it.
fn body_size(head: Head<'_>, length: BodyLength, kind: Kind) -> Option<u64> {
    match kind {
        Kind::S3 => object_bytes(head, length),
        Kind::Http => length.bytes(),
    }
}

/// The rejection of an invalid request. The request passes steps 3 and 4 like any other. The error has the format of the
/// bucket that the request names.
async fn reject_invalid(
    worker: &Worker,
    rejection: RequestRejection,
    head: Head<'_>,
    record: &mut Record,
) -> GatewayError {
    let shared = &worker.shared;
    let named = addressing::resolve(head, &shared.config.server.base_domains);
    record.unrouted_kind = shared.router.route(&named.bucket).map_or(Kind::S3, |bucket| bucket.config.kind);
    match admit_unrouted(worker, method_class(head.method), record).await {
        Ok(_slot) => rejection.into(),
        Err(error) => error,
    }
}

/// Admits a request that names no configured bucket: it passes steps 3 and 4 like any other. `GET /` gets the list of
/// buckets.
async fn unrouted(
    worker: &Rc<Worker>,
    rejection: RouteRejection,
    head: Head<'_>,
    record: &mut Record,
) -> Result<Admitted, GatewayError> {
    let is_list = rejection == RouteRejection::NoBucket && *head.method == Method::GET;
    let class = if is_list { OperationClass::List } else { method_class(head.method) };
    let slot = admit_unrouted(worker, class, record).await?;
    if !is_list {
        return Err(rejection.into());
    }
    let caller = authenticate_and_charge(worker, None, OperationClass::List, head, record).await?;
    record.slot = Some(slot);
    Ok(Admitted::Local(bucket_list::list_buckets(worker, &caller, head, record).await?))
}

/// Steps 3 and 4 of a request without a bucket: the level, a slot, and the limits of all requests and of the client's address.
async fn admit_unrouted(
    worker: &Worker,
    class: OperationClass,
    record: &mut Record,
) -> Result<InFlightSlot, GatewayError> {
    let actors = &worker.shared.actors;
    let slot = actors.monitor.acquire_slot()?;
    if let Some(client) = record.request.client {
        let client = IpKey::from(client.address);
        record.allowed = actors.limiter.admit_unrouted(class, client, record.started).await?;
    }
    Ok(slot)
}

/// The class of a request by its method alone.
fn method_class(method: &Method) -> OperationClass {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => OperationClass::Read,
        _ => OperationClass::Write,
    }
}

/// Charges a request to the limits that its head determines: global, of its client's address, of its bucket.
async fn charge_limits(
    worker: &Worker,
    bucket: &Bucket,
    class: OperationClass,
    record: &mut Record,
) -> Result<(), GatewayError> {
    if let Some(client) = record.request.client {
        let client = IpKey::from(client.address);
        record.allowed = worker.shared.actors.limiter.admit(bucket.id, class, client, record.started).await?;
    }
    Ok(())
}

/// Checks a target for attack patterns by the bucket's mode.
pub(super) fn check_injection(
    worker: &Worker,
    bucket: &Bucket,
    uri: &Uri,
    record: &Record,
) -> Result<(), RequestRejection> {
    if let Some(finding) = injection::check_bucket(uri, bucket.config.injection_patterns)? {
        warn!(worker.shared.log, "suspicious request forwarded"; "id" => record.id.to_str().unwrap_or_default(),
            "bucket" => &bucket.name, "holds" => finding.what);
    }
    Ok(())
}

/// Acquires a permit of the bucket's gate if the circuit of the operation is closed. A replayable request may wait
/// for the circuit first, and acquires its permit then.
pub(super) async fn acquire_grant(
    worker: &Worker,
    bucket: &Bucket,
    (class, is_replayable): (OperationClass, bool),
    deadline: Deadline,
    record: &mut Record,
) -> Result<UpstreamGrant, GatewayError> {
    let now = clock::now();
    let breaker = &bucket.breaker;
    let circuit = breaker.circuit(class);
    let must_wait = match breaker.check(circuit, now) {
        Ok(_) => false,
        Err(refusal)
            if is_replayable
                && upstream::may_wait_for_circuit(worker.call_resources(), bucket, circuit, &refusal) =>
        {
            true
        }
        Err(refusal) => return Err(refusal.into()),
    };
    record.phases.admitted = Some(now);
    let priority = priority::of(record.caller.as_ref(), class, bucket, &worker.shared.keyring);
    if must_wait {
        return Ok(UpstreamGrant { permit: None, circuit, class, priority, deadline });
    }
    let permit = bucket.pool.acquire(priority, deadline.total).await?;
    record.phases.permitted = Some(clock::now());
    Ok(UpstreamGrant { permit: Some(permit), circuit, class, priority, deadline })
}
