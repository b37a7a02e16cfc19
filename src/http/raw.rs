//! The raw path for benchmarks: actix-web to awc and back, without actor messages, logs and metrics (cargo feature
//! `bench`).
//!
//! It measures the cost of the guards. Routing, the header filters and the HTTP client are the same as on the guarded
//! path.

use std::rc::Rc;

use actix_http::body::None as NoBody;
use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use tidegate_actors::EndpointId;
use tidegate_config::Addressing;
use tidegate_s3::addressing;
use tidegate_s3::target;

use crate::http::error::GatewayError;
use crate::http::error_reply::ReplyContext;
use crate::upstream::exchange::outbound_head::OutboundHead;
use crate::upstream::exchange::sent_request::OutboundRequest;
use crate::upstream::headers::filter::{ConnectionOptions, forwards_to_client};
use crate::upstream::{ProxyBody, UpstreamRejection};
use crate::worker::Worker;

/// Forwards one request and its response.
pub(crate) async fn forward(
    worker: &Rc<Worker>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse<ProxyBody> {
    let response = call(worker, &request, payload).await.unwrap_or_else(|error| {
        let id = HeaderValue::from_static("raw");
        let kind = tidegate_config::Kind::S3;
        let region = worker.shared.regions.advertised(None);
        let to = ReplyContext { kind, resource: request.path(), request_id: &id, region };
        error.to_reply().to_response(&to)
    });
    response.map_body(|_, body| ProxyBody::Local(body, None))
}

async fn call(
    worker: &Worker,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, GatewayError> {
    let name = addressing::decode_bucket_name(target::split_bucket(request.path()).0);
    let bucket = worker.shared.router.route(&name)?;
    let destination = &bucket.destinations[0];
    let connection = destination.connection_uri(Addressing::Path, "", false);
    let connection = connection.ok_or(UpstreamRejection::InvalidTarget)?;
    let mut outbound = OutboundRequest { connection, head: OutboundHead::new() };
    let head = outbound.head.get_mut();
    (head.method, head.uri) = (request.method().clone(), request.uri().clone());
    let nominated = ConnectionOptions::of(request.headers());
    for (name, value) in request.headers() {
        if bucket.header_filter.forwards(name, &nominated) {
            head.headers.append(name.clone(), value.clone());
        }
    }
    let host = destination.host(Addressing::Path, "").map_err(|_| UpstreamRejection::InvalidTarget)?;
    head.headers.insert(HOST, host);
    let length = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok());
    let body = match request.headers().get(CONTENT_LENGTH).and_then(length) {
        Some(bytes) => BoxBody::new(SizedStream::new(bytes, payload)),
        None => BoxBody::new(NoBody::new()),
    };
    let sent = worker.client(bucket).send(EndpointId(0), outbound, body).await;
    let response = sent.map_err(|error| UpstreamRejection::Reset(error.to_string()))?;
    let mut forwarded = HttpResponse::new(response.status());
    let nominated = ConnectionOptions::of(response.headers());
    for (name, value) in response.headers() {
        if forwards_to_client(name, &nominated) {
            forwarded.headers_mut().append(name.clone(), value.clone());
        }
    }
    let length = response.headers().get(CONTENT_LENGTH).and_then(length);
    let body: BoxBody = match length {
        Some(bytes) => SizedStream::new(bytes, response).boxed(),
        None => BodyStream::new(response).boxed(),
    };
    debug_assert!(body.size() != BodySize::None);
    Ok(forwarded.set_body(body))
}
