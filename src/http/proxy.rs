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
use tidegate_actors::{BucketId, IpKey, OperationClass, Slot, clock};
use tidegate_config::Kind;

use crate::auth::{self, Caller, Operation, authorize};
use crate::http::client_address::{ClientAddress, Source};
use crate::http::cors::Sharing;
use crate::http::edge::{self, BodyLength, EdgeRejection, Head};
use crate::http::error::{GatewayError, location_answer};
use crate::http::form::{self, Awaited};
use crate::http::introduce::introduce;
use crate::http::multi_delete::{self, Checked};
use crate::http::own::{Besides, own, refuse};
use crate::http::send_progress::SendProgress;
use crate::http::{bucket_list, injection, preflight, priority, probes, request_id};
use crate::router::{Bucket, RouteRejection};
use crate::s3::late_error;
use crate::s3::naming;
use crate::s3::naming::Named;
use crate::s3::upload::declared::{Declared, object_bytes};
use crate::telemetry::record::{Asked, Record};
use crate::upstream::body::{REPLAY_BYTES_MAX, Source as BodySource};
use crate::upstream::deadline::Deadline;
use crate::upstream::{self, Incoming, Leave, Passing, PresignedQuery, ProxyBody, RegionHeader, Taking};
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
        return upstream::raw::pass(&worker, request, payload.into_inner()).await;
    }
    if let Some(answer) = probes::answer(&worker, Head::from(request.head())) {
        return answer.map_body(|_, body| ProxyBody::Own(body, None));
    }
    let mut record = begin(&worker, &request);
    if record.request.peer.is_some_and(|peer| peer.source == Source::Unproxied) {
        return refuse(&worker, &EdgeRejection::ProxyHeader.into(), record);
    }
    let mut payload = payload.into_inner();
    let handling = handle(&worker, request, &mut payload, &mut record);
    let handled = AssertUnwindSafe(handling).catch_unwind().await;
    match handled {
        Ok(Ok(Handled::Upstream(passing))) => {
            let besides = Besides::of(&worker, &mut record);
            besides.say(upstream::pass_on(&worker, passing, record))
        }
        Ok(Ok(Handled::Own(response))) => {
            record.status = response.status().as_u16();
            own(&worker, response, record)
        }
        Ok(Err(error)) => refuse(&worker, &error, record),
        Err(_panic) => refuse(&worker, &GatewayError::Panicked, record),
    }
}

/// The record of a request that has just arrived.
fn begin(worker: &Rc<Worker>, request: &HttpRequest) -> Box<Record> {
    let (server, head) = (&worker.shared.config.server, request.head());
    let source = request.extensions().get().copied().unwrap_or(Source::Peer);
    let peer = head.peer_addr.map(|peer| ClientAddress::new(peer, source));
    let client =
        peer.map(|peer| peer.behind(&server.trusted_proxies, server.client_address_header, &head.headers));
    let asked = Asked { method: head.method.clone(), uri: head.uri.clone(), peer, client };
    let mut record = Box::new(Record::new(worker, request_id::of(&head.headers), asked));
    record.progress = request.extensions_mut().remove::<Rc<SendProgress>>();
    record
}

/// What came of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box would be an allocation per request"
)]
enum Handled {
    /// An answer from upstream.
    Upstream(Passing),
    /// An answer of the gateway's own.
    Own(HttpResponse),
}

/// What a request was granted before its body was touched.
pub(super) enum Admitted {
    /// A call of a bucket's upstream.
    Call(Box<Call>),
    /// A form, whose fields decide.
    Form(Box<Awaited>),
    /// An answer of the gateway's own: the list of buckets, or a preflight's.
    Own(HttpResponse),
}

/// A call of a bucket's upstream, with the places it takes.
pub(super) struct Call {
    pub(super) bucket: BucketId,
    pub(super) length: BodyLength,
    pub(super) caller: Caller,
    /// What the head says of the body.
    pub(super) declared: Option<Declared>,
    /// Whether the body lists keys that must be checked against the caller's policy.
    pub(super) screens: bool,
    /// A CORS preflight for the store, and what becomes of its presigned query.
    pub(super) preflight: Option<PresignedQuery>,
    pub(super) slot: Slot,
    pub(super) leave: Leave,
}

/// Steps 1 to 6: everything that can refuse a request by its head.
async fn admit(worker: &Rc<Worker>, head: Head<'_>, record: &mut Record) -> Result<Admitted, GatewayError> {
    let shared = &worker.shared;
    let actors = &shared.actors;

    // 1 edge, 2 route
    let length = match edge::check(head, &shared.config.server.limits) {
        Ok(length) => length,
        Err(rejection) => {
            let _slot = enter_unrouted(worker, method_class(head.method), record).await?;
            return Err(rejection.into());
        }
    };
    let named = naming::of(head.uri, head.headers, &shared.config.server.base_domains);
    let bucket = match shared.router.route(&named.bucket) {
        Ok(bucket) => bucket,
        // Boxed, as other rare ways: no other request has room for their state.
        Err(rejection) => return Box::pin(unrouted(worker, rejection, head, record)).await,
    };
    record.region = RegionHeader::answer_to(head, bucket, &named);
    record.set_bucket(bucket, &named);
    let Named { bucket: name, key: rest, .. } = named;
    record.sharing = bucket.config.cors.as_ref().map(|rules| Sharing::of(rules, head.method, head.headers));

    // 3 monitor, 4 limiter
    let query = bucket.proofs.without_proofs(head.uri.query().unwrap_or_default());
    let operation = Operation::of(head, &query, bucket.config.kind, rest);
    let is_options = *head.method == Method::OPTIONS;
    let class = if is_options { OperationClass::Read } else { operation.class() };
    // A form takes its slot when its proof is verified.
    let slot = match form::is_form(head, bucket, rest) {
        true => {
            actors.monitor.check_level()?;
            None
        }
        false => Some(actors.monitor.enter()?),
    };
    limit(worker, bucket, class, record).await?;

    // the bucket's edge
    let bytes = match bucket.config.kind {
        Kind::S3 => object_bytes(head, length),
        Kind::Http => length.bytes(),
    };
    edge::check_bucket(head, bytes, bucket.config.max_uri_length, bucket.config.max_request_size)?;
    look(worker, bucket, head.uri, record)?;
    let deadline = edge::deadline(head, bucket, record.started)?;

    // 5 auth
    let Some(slot) = slot else {
        let awaited = Box::pin(form::admit(worker, bucket, (head, length), deadline, record)).await?;
        return Ok(Admitted::Form(Box::new(awaited)));
    };
    if is_options {
        return Box::pin(preflight::admit(worker, bucket, (head, length), (slot, deadline), record)).await;
    }
    let caller = introduce(worker, Some(bucket), class, head, record).await?;
    authorize(&caller, (bucket, &name), head, &operation, (&shared.router, &shared.keyring))?;
    let signs = worker.client(bucket).signs(caller.key(), &bucket.credentials);
    if bucket.config.kind == Kind::S3 {
        auth::check_overrides(&caller, &query, signs, &bucket.config.anonymous)?;
    }
    let screens = auth::screens(&caller, &operation, head, bytes, &shared.keyring)?;
    let declared = upstream::declare(head, length, bucket.config.kind, &caller)?;

    // 6 breaker's published state, pool
    let is_patient = upstream::is_patient(head.method, length);
    let leave = reserve(worker, bucket, (class, is_patient), deadline, record).await?;
    let call = Call { bucket: bucket.id, length, caller, declared, screens, preflight: None, slot, leave };
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
    let slot = enter_unrouted(worker, class, record).await?;
    if !lists {
        return Err(rejection.into());
    }
    let caller = introduce(worker, None, OperationClass::List, head, record).await?;
    record.slot = Some(slot);
    Ok(Admitted::Own(bucket_list::answer(worker, &caller, head, record).await?))
}

/// Steps 3 and 4 of a request without a bucket: the level, a slot, and the limits of all requests and of the client's address.
async fn enter_unrouted(
    worker: &Worker,
    class: OperationClass,
    record: &mut Record,
) -> Result<Slot, GatewayError> {
    let actors = &worker.shared.actors;
    let slot = actors.monitor.enter()?;
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
pub(super) async fn limit(
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
pub(super) fn look(
    worker: &Worker,
    bucket: &Bucket,
    uri: &Uri,
    record: &Record,
) -> Result<(), EdgeRejection> {
    if let Some(seen) = injection::check_bucket(uri, bucket.config.injection_patterns)? {
        warn!(worker.shared.log, "suspicious request passed on"; "id" => record.id.to_str().unwrap_or_default(),
            "bucket" => &bucket.name, "holds" => seen.what);
    }
    Ok(())
}

/// A place in the bucket's gate, if the circuit of such operations lets requests through. One that is patient may wait for that, and
/// takes its place then.
pub(super) async fn reserve(
    worker: &Worker,
    bucket: &Bucket,
    (class, is_patient): (OperationClass, bool),
    deadline: Deadline,
    record: &mut Record,
) -> Result<Leave, GatewayError> {
    let now = clock::now();
    let breaker = &bucket.breaker;
    let circuit = breaker.circuit(class);
    let waits = match breaker.peek(circuit, now) {
        Ok(_) => false,
        Err(refusal) if is_patient && upstream::may_wait(worker, bucket, circuit, &refusal) => true,
        Err(refusal) => return Err(refusal.into()),
    };
    record.phases.admitted = Some(now);
    let priority = priority::of(record.caller.as_ref(), class, bucket, &worker.shared.keyring);
    if waits {
        return Ok(Leave { permit: None, circuit, class, priority, deadline });
    }
    let permit = bucket.pool.acquire(priority, deadline.total).await?;
    record.phases.permitted = Some(clock::now());
    Ok(Leave { permit: Some(permit), circuit, class, priority, deadline })
}

async fn handle(
    worker: &Rc<Worker>,
    request: HttpRequest,
    payload: &mut Payload,
    record: &mut Record,
) -> Result<Handled, GatewayError> {
    // 1 to 6
    let admitted = admit(worker, Head::from(request.head()), record).await?;
    let (incoming, call, source, told) = match admitted {
        Admitted::Own(response) => return Ok(Handled::Own(response)),
        Admitted::Call(call) => {
            if call.length != BodyLength::Empty {
                record.hold_for_body(call.leave.permit.as_ref().map(|_| call.bucket));
            }
            let bucket = worker.shared.router.bucket(call.bucket);
            let source = BodySource::take(payload, call.length.bytes(), bucket, Rc::clone(&record.flow));
            let incoming = match call.preflight {
                Some(query) => Incoming::Preflight(request, query),
                None => Incoming::Client(request),
            };
            (incoming, call, source, None)
        }
        Admitted::Form(awaited) => {
            let received = Box::pin(form::receive(worker, &request, payload, record, *awaited)).await?;
            record.hold_for_body(received.call.leave.permit.as_ref().map(|_| received.call.bucket));
            (Incoming::Form(received.put), received.call, received.source, Some(received.told))
        }
    };

    // 7 and 8, for each attempt
    let Call { bucket, length, mut caller, declared, screens, preflight: _, slot, leave } = *call;
    let bucket = worker.shared.router.bucket(bucket);
    let late = late_error::may_come(incoming.head());
    let server = &worker.shared.config.server;
    let renaming = upstream::names_of(incoming.head(), bucket, server);
    let whole_max = if screens { auth::LIST_BYTES_MAX } else { REPLAY_BYTES_MAX };
    let signs = worker.client(bucket).signs(caller.key(), &bucket.credentials);
    let key = caller.key();
    let taking = Taking { source, length, declared, seed: caller.take_seed(), whole_max, signs };
    let mut outbound = upstream::prepare(incoming, taking, (bucket, key), server, record).await?;
    let mut errors = None;
    if screens {
        match multi_delete::check(worker, &caller, &mut outbound, record)? {
            Checked::Forward(denied) => errors = denied,
            Checked::Reply(reply) => return Ok(Handled::Own(reply)),
        }
    }
    worker.shared.chaos.strike();
    let called = upstream::call(worker, bucket, outbound, leave, record).await?;
    record.hold_for_answer(bucket.id);
    if errors.is_some() {
        multi_delete::check_answer(called.response.status(), called.response.headers())?;
    }
    if let Some(told) = told.filter(|_| called.response.status().is_success()) {
        let headers = Box::pin(upstream::conclude(bucket, called)).await;
        return Ok(Handled::Own(told.answer(&headers, &record.id)));
    }
    if record.region.replaces(called.response.status()) {
        Box::pin(upstream::conclude(bucket, called)).await;
        let region = worker.shared.regions.advertised(Some(&bucket.config));
        return Ok(Handled::Own(location_answer(region, &record.id)));
    }
    Ok(Handled::Upstream(Passing { called, bucket: bucket.id, slot, late, renaming, errors }))
}
