//! The path of a request through the gateway.
//!
//! The steps in their order: 1 validate, 2 route, 3 monitor, 4 limiter, local replies, 5 authentication, 6 published state
//! of the breaker and pool, 7 breaker ticket, 8 upstream, 9 response, 10 record. `ARCHITECTURE.md` has the table of them,
//! with the files and the statuses of the refusals. Steps 1 to 6 are in `admission.rs`. A form continues in `form.rs`,
//! which acquires the slot of step 3 after the signature is verified, and a preflight in `cors_preflight.rs`. The
//! response to GetBucketLocation is the gateway's document.
//!
//! Cheap and global checks come first; scarce resources are acquired last, as tickets that `Drop` releases on every
//! path. Local replies (refusals of step 1, the list of buckets, preflights by the bucket's rules, 404 for an unknown
//! bucket, the bucket's validation) pass steps 3 and 4 like any other; only probes do not. The connection's loop closes
//! a connection with ambiguous framing after any reply.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use futures_util::FutureExt;
use tidegate_s3::late_error;
use tidegate_s3::request::BodyLength;

use crate::auth;
use crate::buffers::send_progress::SendProgress;
use crate::client_address::{AddressSource, ClientAddress};
use crate::http::admission::{Admitted, UpstreamCall, admit};
use crate::http::error::{GatewayError, location_reply};
use crate::http::form::{self, AcceptedForm, FormReply};
use crate::http::local_reply::{CommonHeaders, local_reply, reject};
use crate::http::multi_delete::{self, DeleteCheck};
#[cfg(feature = "bench")]
use crate::http::raw;
use crate::http::request_validation::RequestRejection;
use crate::http::{probes, request_id};
use crate::request_head::Head;
use crate::upstream::body::{BodySource, REPLAY_BYTES_MAX};
use crate::upstream::record::{Record, RequestInfo};
use crate::upstream::{self, BodyPlan, ProxiedRequest, ProxyBody, ResponseForward};
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
        return raw::forward(&worker, request, payload.into_inner()).await;
    }
    if let Some(reply) = probes::probe_reply(&worker, Head::from(request.head())) {
        return reply.map_body(|_, body| ProxyBody::Local(body, None));
    }
    let mut record = new_record(&worker, &request);
    if record.request.peer.is_some_and(|peer| peer.source == AddressSource::MissingProxyHeader) {
        return reject(&worker, &RequestRejection::ProxyHeader.into(), record);
    }
    let mut payload = payload.into_inner();
    let handling = handle(&worker, request, &mut payload, &mut record);
    let handled = AssertUnwindSafe(handling).catch_unwind().await;
    match handled {
        Ok(Ok(Handled::Upstream(forward))) => {
            let common_headers = CommonHeaders::of(&worker, &mut record);
            common_headers.apply(upstream::forward_response(Rc::<Worker>::clone(&worker), forward, record))
        }
        Ok(Ok(Handled::Local(response))) => {
            record.status = response.status().as_u16();
            local_reply(&worker, response, record)
        }
        Ok(Err(error)) => reject(&worker, &error, record),
        Err(_panic) => reject(&worker, &GatewayError::Panicked, record),
    }
}

/// Creates the record of a new request.
fn new_record(worker: &Rc<Worker>, request: &HttpRequest) -> Box<Record> {
    let (server, head) = (&worker.shared.config.server, request.head());
    let source = request.extensions().get().copied().unwrap_or(AddressSource::Peer);
    let peer = head.peer_addr.map(|peer| ClientAddress::new(peer, source));
    let client = peer.map(|peer| {
        peer.resolve_client(&server.trusted_proxies, server.client_address_header, &head.headers)
    });
    let info = RequestInfo { method: head.method.clone(), uri: head.uri.clone(), peer, client };
    let mut record = Box::new(Record::new(Rc::<Worker>::clone(worker), request_id::of(&head.headers), info));
    record.send_progress = request.extensions_mut().remove::<Rc<SendProgress>>();
    record
}

/// The outcome of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box would be an allocation per request"
)]
enum Handled {
    /// A response of the upstream.
    Upstream(ResponseForward),
    /// A local reply.
    Local(HttpResponse),
}

/// An admitted request with its body.
struct AdmittedRequest {
    request: ProxiedRequest,
    call: Box<UpstreamCall>,
    source: BodySource,
    /// The reply to a form after the store has accepted its upload.
    form_reply: Option<FormReply>,
}

/// Admits a request, takes its body, and forwards it.
async fn handle(
    worker: &Rc<Worker>,
    request: HttpRequest,
    payload: &mut Payload,
    record: &mut Record,
) -> Result<Handled, GatewayError> {
    // 1 to 6
    let admitted = admit(worker, Head::from(request.head()), record).await?;
    let admitted = match admitted {
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
            let request = match call.preflight {
                Some(query) => ProxiedRequest::Preflight(request, query),
                None => ProxiedRequest::Client(request),
            };
            AdmittedRequest { request, call, source, form_reply: None }
        }
        Admitted::Form(pending) => {
            let accepted = Box::pin(form::receive(worker, &request, payload, record, *pending)).await?;
            record.set_body_occupancy(accepted.call.grant.permit.as_ref().map(|_| accepted.call.bucket));
            let AcceptedForm { upload, call, body, reply } = accepted;
            let request = ProxiedRequest::Form(upload);
            AdmittedRequest { request, call, source: body, form_reply: Some(reply) }
        }
    };
    forward(worker, admitted, record).await
}

/// Steps 7 and 8: calls the upstream, and chooses between its response and a local reply.
async fn forward(
    worker: &Rc<Worker>,
    AdmittedRequest { request, call, source, form_reply }: AdmittedRequest,
    record: &mut Record,
) -> Result<Handled, GatewayError> {
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
    let may_have_late_error = late_error::is_possible(request.head());
    let server = &worker.shared.config.server;
    let renaming = upstream::rename_plan(request.head(), bucket, server);
    let buffered_max = if needs_screening { auth::LIST_BYTES_MAX } else { REPLAY_BYTES_MAX };
    let is_signed = worker.client(bucket).signs(caller.key(), &bucket.credentials);
    let key = caller.key();
    let plan = BodyPlan {
        source,
        length,
        declared: declared_body,
        seed: caller.take_signature_chain(),
        buffered_max,
        is_signed,
    };
    let mut upstream_request = upstream::prepare(request, plan, (bucket, key), server, record).await?;
    let mut denied_errors = None;
    if needs_screening {
        match multi_delete::check(worker, &caller, &mut upstream_request, record)? {
            DeleteCheck::Forward(denied) => denied_errors = denied,
            DeleteCheck::Reply(reply) => return Ok(Handled::Local(reply)),
        }
    }
    worker.shared.chaos.panic_if_armed();
    let response = upstream::call(worker.call_resources(), bucket, upstream_request, grant, record).await?;
    record.set_response_occupancy(bucket.id);
    if denied_errors.is_some() {
        multi_delete::check_response(response.response.status(), response.response.headers())?;
    }
    if let Some(reply) = form_reply.filter(|_| response.response.status().is_success()) {
        let headers = Box::pin(upstream::discard_body(bucket, response)).await;
        return Ok(Handled::Local(reply.to_response(&headers, &record.id)));
    }
    if record.region.replaces_body(response.response.status()) {
        Box::pin(upstream::discard_body(bucket, response)).await;
        let region = worker.shared.regions.advertised(Some(&bucket.config));
        return Ok(Handled::Local(location_reply(region, &record.id)));
    }
    Ok(Handled::Upstream(ResponseForward {
        response,
        bucket: bucket.id,
        slot,
        may_have_late_error,
        renaming,
        denied_errors,
    }))
}
