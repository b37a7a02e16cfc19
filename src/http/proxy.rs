//! A request's way through the gateway. The order is the documentation:
//!
//! ```text
//!  1 edge      framing, header size, path safety; a refusal  400 405 411 431
//!              passes 3 and 4 like any answer
//!  2 route     Host or path → bucket
//!  3 monitor   level, then the in-flight slot                503
//!  4 limiter   global, client address, bucket in one ask     429
//!              the bucket's edge; local answers              400 403 404 405 413 414
//!  5 auth      signature, key's limit, policy                400 401 403 429 501
//!              of a form: in its body; `form.rs` takes 3 to 6 over, and its slot when its proof is verified
//!              of a preflight: none; `preflight.rs` answers it or takes 6 over
//!  6 breaker   published state, before queueing              503
//!    pool      place in the gate, endpoint, credential       429 503
//!  7 breaker   half-open permit, immediately before the call 503
//!              (`upstream/hold.rs`: waited for, where that is configured)
//!  8 upstream  attempts within the deadline                  408 502 503 504
//!  9 answer    streamed; the outcome reported at its last byte. GetBucketLocation: the gateway's document in its place
//! 10 record    access log and metrics, when everything above is dropped
//! ```
//!
//! Cheapest and most global first; what can be lost is taken last. Everything taken is a ticket whose `Drop` gives it back
//! on every path.
//!
//! Answers of the gateway's own (refusals of step 1, the list of buckets, preflights by the bucket's rules, an
//! unknown bucket's 404, a bucket's edge) pass steps 3 and 4 like any other; only probes do not. A connection with
//! ambiguous framing is closed by its loop whatever the answer is.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::{Method, Uri};
use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use futures_util::FutureExt;
use slog::warn;
use tidegate_actors::{BucketId, InFlightSlot, IpKey, OperationClass, clock};
use tidegate_config::Kind;

use crate::auth::{self, Caller, Operation, authorize};
use crate::http::authentication::authenticate_and_charge;
use crate::http::client_address::{AddressSource, ClientAddress};
use crate::http::cors::CorsHeaders;
use crate::http::error::{GatewayError, location_reply};
use crate::http::form::{self, PendingForm};
use crate::http::local_reply::{CommonHeaders, local_reply, reject};
use crate::http::multi_delete::{self, DeleteCheck};
use crate::http::request_validation::{self, BodyLength, Head, RequestRejection};
use crate::http::send_progress::SendProgress;
use crate::http::{bucket_list, cors_preflight, injection, priority, probes, request_id};
use crate::router::{Bucket, RouteRejection};
use crate::s3::addressing;
use crate::s3::addressing::NamedResource;
use crate::s3::late_error;
use crate::s3::upload::declared_body::{DeclaredBody, object_bytes};
use crate::telemetry::record::{Record, RequestInfo};
use crate::upstream::body::{BodySource, REPLAY_BYTES_MAX};
use crate::upstream::deadline::Deadline;
use crate::upstream::{
    self, BodyPlan, PresignedQuery, ProxiedRequest, ProxyBody, RegionHeader, ResponseForward, UpstreamGrant,
};
use crate::worker::Worker;

/// Serves one request on the data listener.
pub(crate) async fn proxy(
    request: HttpRequest,
    payload: web::Payload,
    worker: Data<Rc<Worker>>,
) -> HttpResponse<ProxyBody> {
    let worker = Rc::clone(&worker);
    #[cfg(feature = "bench")]
    if !worker.shared.config.guards {
        return upstream::raw::forward(&worker, request, payload.into_inner()).await;
    }
    if let Some(answer) = probes::probe_reply(&worker, Head::from(request.head())) {
        return answer.map_body(|_, body| ProxyBody::Local(body, None));
    }
    let mut record = new_record(&worker, &request);
    if record.request.peer.is_some_and(|peer| peer.source == AddressSource::MissingProxyHeader) {
        return reject(&worker, &RequestRejection::ProxyHeader.into(), record);
    }
    let mut payload = payload.into_inner();
    let handling = handle(&worker, request, &mut payload, &mut record);
    let handled = AssertUnwindSafe(handling).catch_unwind().await;
    match handled {
        Ok(Ok(Handled::Upstream(passing))) => {
            let common_headers = CommonHeaders::of(&worker, &mut record);
            common_headers.apply(upstream::forward_response(&worker, passing, record))
        }
        Ok(Ok(Handled::Local(response))) => {
            record.status = response.status().as_u16();
            local_reply(&worker, response, record)
        }
        Ok(Err(error)) => reject(&worker, &error, record),
        Err(_panic) => reject(&worker, &GatewayError::Panicked, record),
    }
}

/// The record of a request that has just arrived.
fn new_record(worker: &Rc<Worker>, request: &HttpRequest) -> Box<Record> {
    let (server, head) = (&worker.shared.config.server, request.head());
    let source = request.extensions().get().copied().unwrap_or(AddressSource::Peer);
    let peer = head.peer_addr.map(|peer| ClientAddress::new(peer, source));
    let client = peer.map(|peer| {
        peer.resolve_client(&server.trusted_proxies, server.client_address_header, &head.headers)
    });
    let info = RequestInfo { method: head.method.clone(), uri: head.uri.clone(), peer, client };
    let mut record = Box::new(Record::new(worker, request_id::of(&head.headers), info));
    record.send_progress = request.extensions_mut().remove::<Rc<SendProgress>>();
    record
}

/// What came of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box would be an allocation per request"
)]
enum Handled {
    /// An answer from upstream.
    Upstream(ResponseForward),
    /// An answer of the gateway's own.
    Local(HttpResponse),
}

/// What a request was granted before its body was touched.
pub(super) enum Admitted {
    /// A call of a bucket's upstream.
    Call(Box<UpstreamCall>),
    /// A form, whose fields decide.
    Form(Box<PendingForm>),
    /// An answer of the gateway's own: the list of buckets, or a preflight's.
    Local(HttpResponse),
}

/// A call of a bucket's upstream, with the places it takes.
pub(super) struct UpstreamCall {
    pub(super) bucket: BucketId,
    pub(super) length: BodyLength,
    pub(super) caller: Caller,
    /// What the head says of the body.
    pub(super) declared_body: Option<DeclaredBody>,
    /// Whether the body lists keys that must be checked against the caller's policy.
    pub(super) needs_screening: bool,
    /// A CORS preflight for the store, and what becomes of its presigned query.
    pub(super) preflight: Option<PresignedQuery>,
    pub(super) slot: InFlightSlot,
    pub(super) grant: UpstreamGrant,
}

/// Steps 1 to 6: everything that can refuse a request by its head.
async fn admit(worker: &Rc<Worker>, head: Head<'_>, record: &mut Record) -> Result<Admitted, GatewayError> {
    let shared = &worker.shared;
    let actors = &shared.actors;

    // 1 edge, 2 route
    let length = match request_validation::validate(head, &shared.config.server.limits) {
        Ok(length) => length,
        Err(rejection) => {
            let _slot = admit_unrouted(worker, method_class(head.method), record).await?;
            return Err(rejection.into());
        }
    };
    let named = addressing::resolve(head.uri, head.headers, &shared.config.server.base_domains);
    let bucket = match shared.router.route(&named.bucket) {
        Ok(bucket) => bucket,
        // Boxed, as other rare ways: no other request has room for their state.
        Err(rejection) => return Box::pin(unrouted(worker, rejection, head, record)).await,
    };
    record.region = RegionHeader::for_request(head, bucket, &named);
    record.set_bucket(bucket, &named);
    let NamedResource { bucket: name, key: rest, .. } = named;
    record.cors = bucket.config.cors.as_ref().map(|rules| CorsHeaders::of(rules, head.method, head.headers));

    // 3 monitor, 4 limiter
    let query = bucket.accepted_auth.strip_query(head.uri.query().unwrap_or_default());
    let operation = Operation::from_request(head, &query, bucket.config.kind, rest);
    let is_options = *head.method == Method::OPTIONS;
    let class = if is_options { OperationClass::Read } else { operation.class() };
    // A form takes its slot when its proof is verified.
    let slot = match form::is_form(head, bucket, rest) {
        true => {
            actors.monitor.check_level()?;
            None
        }
        false => Some(actors.monitor.acquire_slot()?),
    };
    charge_limits(worker, bucket, class, record).await?;

    // the bucket's edge
    let bytes = match bucket.config.kind {
        Kind::S3 => object_bytes(head, length),
        Kind::Http => length.bytes(),
    };
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
        let awaited = Box::pin(form::admit(worker, bucket, (head, length), deadline, record)).await?;
        return Ok(Admitted::Form(Box::new(awaited)));
    };
    if is_options {
        return Box::pin(cors_preflight::admit(worker, bucket, (head, length), (slot, deadline), record))
            .await;
    }
    let caller = authenticate_and_charge(worker, Some(bucket), class, head, record).await?;
    authorize(&caller, (bucket, &name), head, &operation, (&shared.router, &shared.keyring))?;
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

/// A request that names no configured bucket passes steps 3 and 4 like any other. `GET /` gets the list of buckets.
async fn unrouted(
    worker: &Rc<Worker>,
    rejection: RouteRejection,
    head: Head<'_>,
    record: &mut Record,
) -> Result<Admitted, GatewayError> {
    let lists = rejection == RouteRejection::NoBucket && *head.method == Method::GET;
    let class = if lists { OperationClass::List } else { method_class(head.method) };
    let slot = admit_unrouted(worker, class, record).await?;
    if !lists {
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

/// Charges a request to the limits that its head tells: global, of its client's address, of its bucket.
pub(super) async fn charge_limits(
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

/// Looks for patterns of an attack by the bucket's mode.
pub(super) fn check_injection(
    worker: &Worker,
    bucket: &Bucket,
    uri: &Uri,
    record: &Record,
) -> Result<(), RequestRejection> {
    if let Some(seen) = injection::check_bucket(uri, bucket.config.injection_patterns)? {
        warn!(worker.shared.log, "suspicious request passed on"; "id" => record.id.to_str().unwrap_or_default(),
            "bucket" => &bucket.name, "holds" => seen.what);
    }
    Ok(())
}

/// A place in the bucket's gate, if the circuit of such operations lets requests through. One that is patient may wait for that, and
/// takes its place then.
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
            if is_replayable && upstream::may_wait_for_circuit(worker, bucket, circuit, &refusal) =>
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

async fn handle(
    worker: &Rc<Worker>,
    request: HttpRequest,
    payload: &mut Payload,
    record: &mut Record,
) -> Result<Handled, GatewayError> {
    // 1 to 6
    let admitted = admit(worker, Head::from(request.head()), record).await?;
    let (incoming, call, source, form_reply) = match admitted {
        Admitted::Local(response) => return Ok(Handled::Local(response)),
        Admitted::Call(call) => {
            if call.length != BodyLength::Empty {
                record.set_body_occupancy(call.grant.permit.as_ref().map(|_| call.bucket));
            }
            let bucket = worker.shared.router.bucket(call.bucket);
            let source = BodySource::from_payload(
                payload,
                call.length.bytes(),
                bucket,
                Rc::clone(&record.upload_progress),
            );
            let incoming = match call.preflight {
                Some(query) => ProxiedRequest::Preflight(request, query),
                None => ProxiedRequest::Client(request),
            };
            (incoming, call, source, None)
        }
        Admitted::Form(awaited) => {
            let received = Box::pin(form::receive(worker, &request, payload, record, *awaited)).await?;
            record.set_body_occupancy(received.call.grant.permit.as_ref().map(|_| received.call.bucket));
            (ProxiedRequest::Form(received.upload), received.call, received.body, Some(received.reply))
        }
    };

    // 7 and 8, for each attempt
    let UpstreamCall {
        bucket,
        length,
        mut caller,
        declared_body,
        needs_screening,
        preflight: _,
        slot,
        grant,
    } = *call;
    let bucket = worker.shared.router.bucket(bucket);
    let may_have_late_error = late_error::is_possible(incoming.head());
    let server = &worker.shared.config.server;
    let renaming = upstream::rename_plan(incoming.head(), bucket, server);
    let whole_max = if needs_screening { auth::LIST_BYTES_MAX } else { REPLAY_BYTES_MAX };
    let is_signed = worker.client(bucket).signs(caller.key(), &bucket.credentials);
    let key = caller.key();
    let plan = BodyPlan {
        source,
        length,
        declared: declared_body,
        seed: caller.take_signature_chain(),
        buffered_max: whole_max,
        is_signed,
    };
    let mut outbound = upstream::prepare(incoming, plan, (bucket, key), server, record).await?;
    let mut denied_errors = None;
    if needs_screening {
        match multi_delete::check(worker, &caller, &mut outbound, record)? {
            DeleteCheck::Forward(denied) => denied_errors = denied,
            DeleteCheck::Reply(reply) => return Ok(Handled::Local(reply)),
        }
    }
    worker.shared.chaos.panic_if_armed();
    let called = upstream::call(worker, bucket, outbound, grant, record).await?;
    record.set_response_occupancy(bucket.id);
    if denied_errors.is_some() {
        multi_delete::check_response(called.response.status(), called.response.headers())?;
    }
    if let Some(reply) = form_reply.filter(|_| called.response.status().is_success()) {
        let headers = Box::pin(upstream::discard_body(bucket, called)).await;
        return Ok(Handled::Local(reply.to_response(&headers, &record.id)));
    }
    if record.region.replaces_body(called.response.status()) {
        Box::pin(upstream::discard_body(bucket, called)).await;
        let region = worker.shared.regions.advertised(Some(&bucket.config));
        return Ok(Handled::Local(location_reply(region, &record.id)));
    }
    Ok(Handled::Upstream(ResponseForward {
        response: called,
        bucket: bucket.id,
        slot,
        may_have_late_error,
        renaming,
        denied_errors,
    }))
}
