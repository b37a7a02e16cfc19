//! The path of a request through the gateway.
//!
//! `serve` has the steps in their order: 1 validate, 2 route, 3 monitor, 4 limiter, local replies, 5 authentication,
//! 6 published state of the breaker and pool, 7 breaker ticket, 8 upstream, 9 response, 10 record. `ARCHITECTURE.md`
//! has the table of them, with the files and the statuses of the refusals. Every request but a probe passes them: `Route` and
//! `RequestKind` (`route.rs`) decide what a step does for the list of buckets, a form or a preflight. `Expect:
//! 100-continue` has no path of its own: the loops of HTTP/1.1 and HTTP/2 send the 100 when a step first reads the
//! body, so a refusal before that replaces it.
//!
//! Cheap and global checks come first; scarce resources are acquired last, as tickets that `Drop` releases on every
//! path. Local replies (refusals of step 1, the list of buckets, preflights by the bucket's rules, 404 for an unknown
//! bucket, the bucket's validation) pass steps 3 and 4 like any other; only probes do not. The connection's loop closes
//! a connection with ambiguous framing after any reply.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use actix_http::Payload;
use actix_web::HttpResponse;
use futures_util::FutureExt;
use tidegate_actors::{BucketId, InFlightSlot, OperationClass};
use tidegate_config::Kind;
use tidegate_s3::late_error;
use tidegate_s3::request::BodyLength;
use tidegate_s3::upload::declared_body::DeclaredBody;

use crate::auth::{self, Caller};
use crate::boxed::boxed;
use crate::client_address::{AddressSource, ClientAddress};
use crate::http::authentication::{self, AuthLocation};
use crate::http::authorization::authorize;
use crate::http::client_request::ClientRequest;
use crate::http::cors_preflight::{self, Preflight};
use crate::http::error::{GatewayError, location_reply};
use crate::http::form::{self, AcceptedForm};
use crate::http::grant::acquire_grant;
use crate::http::local_reply::{CommonHeaders, local_reply, reject};
use crate::http::multi_delete::{self, DeleteCheck};
#[cfg(feature = "bench")]
use crate::http::raw;
use crate::http::request_validation::{self, RequestRejection};
use crate::http::route::{self, RequestKind, Route};
use crate::http::shedding::{self, Weight};
use crate::http::{admission, bucket_list, injection, probes, proxy_status, request_id};
use crate::request_head::{ClientHead, Head};
use crate::upstream::body::{BodySource, REPLAY_BYTES_MAX};
use crate::upstream::record::{Record, RequestInfo};
use crate::upstream::{
    self, BodyPlan, PresignedQuery, ProxiedRequest, ProxyBody, ResponseForward, UpstreamGrant,
};
use crate::worker::Worker;

/// Serves one request on the data listener.
pub(crate) async fn proxy(worker: Rc<Worker>, request: ClientRequest) -> HttpResponse<ProxyBody> {
    #[cfg(feature = "bench")]
    if !worker.shared.config.guards {
        return raw::forward(&worker, request).await;
    }
    if let Some(reply) = probes::probe_reply(&worker, request.head.view()) {
        return reply.map_body(|_, body| ProxyBody::Local(body, None));
    }
    let (mut record, head, mut payload) = new_record(&worker, request);
    if record.request.peer.is_some_and(|peer| peer.source == AddressSource::MissingProxyHeader) {
        return reject(&worker, &RequestRejection::ProxyHeader.into(), record);
    }
    let serving = serve(&worker, head, &mut payload, &mut record);
    let handled = AssertUnwindSafe(serving).catch_unwind().await;
    match handled {
        Ok(Ok(Handled::Upstream(forward))) => {
            let common_headers = CommonHeaders::of(&worker, &mut record);
            let mut response = common_headers.apply(upstream::forward_response(
                Rc::<Worker>::clone(&worker),
                forward,
                record,
            ));
            if worker.shared.config.server.proxy_status {
                let status = response.status().as_u16();
                proxy_status::append_to_upstream(status, response.headers_mut());
            }
            response
        }
        Ok(Ok(Handled::Local(response))) => {
            record.status = response.status().as_u16();
            local_reply(&worker, response, record)
        }
        Ok(Err(error)) => reject(&worker, &error, record),
        Err(_panic) => reject(&worker, &GatewayError::Panicked, record),
    }
}

/// The largest state of a request, in bytes. It is written and freed for each request, so a rare path has its state in a box.
const STATE_BYTES_MAX: usize = 4 << 10;

const fn state_bytes<A, B, F>(_: &impl Fn(A, B) -> F) -> usize {
    size_of::<F>()
}

const _: () = assert!(state_bytes(&proxy) <= STATE_BYTES_MAX, "box the state of the rare path");

/// Creates the record of a new request. Returns it with the head and the body.
fn new_record(worker: &Rc<Worker>, request: ClientRequest) -> (Box<Record>, ClientHead, Payload) {
    let ClientRequest { head, payload, client, source, progress } = request;
    let (server, view) = (&worker.shared.config.server, head.view());
    let peer = client.map(|client| ClientAddress::new(client, source));
    let client = peer
        .map(|peer| peer.resolve_client(&server.trusted_proxies, server.client_address_header, view.headers));
    let info = RequestInfo { method: view.method.clone(), uri: view.uri.clone(), peer, client };
    let id = request_id::of(view.header_view());
    let mut record = boxed!(Record::new(Rc::<Worker>::clone(worker), id, info));
    record.send_progress = progress;
    (record, head, payload)
}

/// The outcome of a request.
enum Handled {
    /// A response of the upstream.
    Upstream(ResponseForward),
    /// A local reply.
    Local(HttpResponse),
}

/// The result of steps 1 to 6.
enum Admitted {
    /// A call of a bucket's upstream.
    Call(UpstreamCall),
    /// A local reply: the list of buckets, or the reply to a preflight.
    Local(HttpResponse),
}

/// A call of a bucket's upstream, with its slot and permit.
struct UpstreamCall {
    bucket: BucketId,
    kind: CallKind,
    length: BodyLength,
    caller: Caller,
    /// The body that the head declares.
    declared: Option<Box<DeclaredBody>>,
    /// Whether the body lists keys that must be checked against the caller's policy.
    needs_delete_key_check: bool,
    slot: InFlightSlot,
    grant: UpstreamGrant,
}

/// What is sent to the upstream.
enum CallKind {
    /// The client's request.
    Ordinary,
    /// The client's preflight.
    Preflight(PresignedQuery),
    /// The upload of a form.
    Form(Box<AcceptedForm>),
}

/// The path of a request from its head to its response.
async fn serve(
    worker: &Rc<Worker>,
    head: ClientHead,
    payload: &mut Payload,
    record: &mut Record,
) -> Result<Handled, GatewayError> {
    // 1 to 6
    let mut call = match admit(worker, head.view(), payload, record).await {
        Ok(Admitted::Call(call)) => call,
        Ok(Admitted::Local(reply)) => return Ok(Handled::Local(reply)),
        Err(error) => {
            shedding::charge_refused(worker, head.view(), &error, record);
            return Err(error);
        }
    };
    let (bucket, server) = (worker.shared.router.bucket(call.bucket), &worker.shared.config.server);

    // the body
    let mut form_reply = None;
    let (request, form_body) = match call.kind {
        CallKind::Ordinary => (ProxiedRequest::Client(head), None),
        CallKind::Preflight(query) => (ProxiedRequest::Preflight(head, query), None),
        CallKind::Form(form) => {
            let AcceptedForm { upload, body, reply } = *form;
            form_reply = Some(reply);
            (ProxiedRequest::Form(upload), Some(body))
        }
    };
    let progress = &record.upload_progress;
    let plan = BodyPlan {
        source: form_body.unwrap_or_else(|| {
            BodySource::from_payload(payload, call.length.bytes(), &bucket.config, Rc::clone(progress))
        }),
        length: call.length,
        declared: call.declared,
        seed: call.caller.take_signature_chain(),
        buffered_max: if call.needs_delete_key_check { auth::LIST_BYTES_MAX } else { REPLAY_BYTES_MAX },
        is_signed: worker.client(bucket).is_signed(call.caller.key(), &bucket.credentials),
    };
    let may_have_late_error = bucket.config.kind == Kind::S3 && late_error::is_possible(request.head());
    let renaming = upstream::rename_plan(request.head(), bucket, server).map(Box::new);
    let mut outbound = upstream::prepare(request, plan, (bucket, call.caller.key()), server, record).await?;
    // Names cannot be replaced in a compressed document, and any response may be an error document.
    outbound.needs_plain_response = renaming.is_some();
    let mut denied_errors = None;
    if call.needs_delete_key_check {
        match multi_delete::check(worker, &call.caller, &mut outbound, record)? {
            DeleteCheck::Forward(denied) => denied_errors = denied,
            DeleteCheck::Reply(reply) => return Ok(Handled::Local(reply)),
        }
    }

    // 7 breaker ticket, 8 upstream
    worker.process.chaos.panic_in_request();
    let response = upstream::call(worker.call_resources(), bucket, outbound, call.grant, record).await?;
    record.set_response_occupancy(bucket.id);
    let status = response.status();
    if denied_errors.is_some() {
        multi_delete::check_response(status, response.headers())?;
    }

    // 9 response: of the upstream, or of the gateway after an upload by form and for GetBucketLocation
    let form_reply = form_reply.filter(|_| status.is_success());
    if form_reply.is_some() || record.region.replaces_body(status) {
        let headers = Box::pin(upstream::discard_body(bucket, response)).await;
        let region = worker.shared.regions.advertised(Some(&bucket.config));
        return Ok(Handled::Local(match form_reply {
            Some(reply) => reply.to_response(&headers, &record.id),
            None => location_reply(region, &record.id),
        }));
    }
    let bucket = bucket.id;
    Ok(Handled::Upstream(ResponseForward {
        response,
        bucket,
        slot: call.slot,
        may_have_late_error,
        renaming,
        denied_errors,
    }))
}

/// Steps 1 to 6. Except for a form, nothing here reads the body.
async fn admit(
    worker: &Rc<Worker>,
    head: Head<'_>,
    payload: &mut Payload,
    record: &mut Record,
) -> Result<Admitted, GatewayError> {
    // 1 validate, 2 route
    let route = route::route(worker, head, record);
    let class = route.class(head.method);
    record.class = Some(class);

    // 3 monitor: the process's cursor, a slot (a form: only the level), 4 limiter
    let weight = shedding::check_process(worker, &route, (head, class), record)?;
    let mut slot = admission::acquire_slot(worker, route.is_form(), record)?;
    admission::charge_limits(worker, route.bucket(), class, record).await?;

    // local replies and the bucket's validation
    let request = match route {
        Route::Bucket(ref request) => request,
        // Boxed like other rare paths, so that the state of an ordinary request stays small.
        Route::BucketList => return Box::pin(list_buckets(worker, (head, weight), slot, record)).await,
        Route::Refused(error) => return Err(error),
    };
    let bucket = request.bucket;
    bucket.pool.check_drain()?;
    record.set_live(bucket.id);
    request_validation::validate_for_bucket(head, request.bytes, &bucket.config)?;
    injection::check_and_log(&worker.process.log, bucket, head.uri, record)?;
    let deadline = request_validation::request_deadline(head, bucket, record.started)?;

    // 5 authentication by the head or by the fields of a form, then authorization
    let (mut kind, mut form) = (CallKind::Ordinary, None);
    let location = match request.kind {
        RequestKind::Ordinary => AuthLocation::Head(bucket, head),
        RequestKind::Form => {
            let received = Box::pin(form::receive(worker, request, payload, record)).await?;
            AuthLocation::Fields(bucket, &form.insert(received).fields)
        }
        RequestKind::Options => match cors_preflight::accept(worker, request, &mut slot, record)? {
            Preflight::Local(reply) => return Ok(Admitted::Local(reply)),
            Preflight::Forward(query) => {
                kind = CallKind::Preflight(query);
                AuthLocation::Absent(bucket)
            }
        },
    };
    let caller = authentication::authenticate_and_charge(worker, location, class, record).await?;
    shedding::charge(worker, Some(bucket), class, weight, record);
    let upload = form.map(|form| form.into_upload(worker, request, &caller, record)).transpose()?;
    let needs_delete_key_check = match &upload {
        Some(upload) => authorize(worker, &upload.request(worker, request), &caller)?,
        None => authorize(worker, request, &caller)?,
    };

    // 3 monitor: uploads of the lowest priority, and the slot of a form; the body that the head declares, or the file of the form
    admission::check_upload(worker, bucket, class, record)?;
    let slot = slot.map_or_else(|| worker.shared.actors.monitor.acquire_slot(), Ok)?;
    let (length, declared) = match upload {
        None => (request.length, upstream::declared_body(head, request.length, bucket.config.kind, &caller)?),
        Some(upload) => {
            let (form, length, declared) = Box::pin(upload.read_file(bucket, record)).await?;
            kind = CallKind::Form(form);
            (length, Some(Box::new(declared)))
        }
    };

    // 6 breaker's published state, the bucket's cursor, pool
    let is_replayable = upstream::is_replayable(head.method, request.length);
    let grant = acquire_grant(worker, bucket, (class, is_replayable), deadline, record).await?;
    if request.length != BodyLength::Empty {
        record.set_body_occupancy(grant.permit.as_ref().map(|_| bucket.id));
    }
    let bucket = bucket.id;
    let call = UpstreamCall { bucket, kind, length, caller, declared, needs_delete_key_check, slot, grant };
    Ok(Admitted::Call(call))
}

/// Step 5 and the reply of a request for the list of buckets. The reply holds the slot until its end.
async fn list_buckets(
    worker: &Rc<Worker>,
    (head, weight): (Head<'_>, Weight),
    slot: Option<InFlightSlot>,
    record: &mut Record,
) -> Result<Admitted, GatewayError> {
    let location = AuthLocation::BucketList(head);
    let caller =
        authentication::authenticate_and_charge(worker, location, OperationClass::List, record).await?;
    shedding::charge(worker, None, OperationClass::List, weight, record);
    record.slot = slot;
    Ok(Admitted::Local(bucket_list::list_buckets(worker, &caller, head, record).await?))
}
