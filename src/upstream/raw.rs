//! The raw path: actix-web to awc and back, with no asks, no log and no metrics (cargo feature `bench`).
//!
//! It exists to measure what the guards cost, and shares with the guarded path what is not a guard: routing,
//! header hygiene, the client.

use std::rc::Rc;

use actix_http::body::None as NoBody;
use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::dev::Payload;
use actix_web::http::Uri;
use actix_web::http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use actix_web::http::uri::{self, Scheme};
use actix_web::{HttpRequest, HttpResponse};
use tidegate_config::Addressing;

use crate::http::answer::Addressee;
use crate::http::error::GatewayError;
use crate::s3::{naming, target};
use crate::upstream::headers::{Nominated, travels_down};
use crate::upstream::{ProxyBody, UpstreamRejection};
use crate::worker::Worker;

/// Passes one request.
pub(crate) async fn pass(
    worker: &Rc<Worker>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse<ProxyBody> {
    let passed = call(worker, &request, payload).await.unwrap_or_else(|error| {
        let id = HeaderValue::from_static("raw");
        let kind = tidegate_config::Kind::S3;
        let to = Addressee { kind, resource: request.path(), request_id: &id };
        error.answer().respond(&to)
    });
    passed.map_body(|_, body| ProxyBody::Own(body, None))
}

async fn call(
    worker: &Worker,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, GatewayError> {
    let name = naming::decoded(target::split(request.path()).0);
    let bucket = worker.shared.router.route(&name)?;
    let destination = &bucket.destinations[0];
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(destination.connection.clone());
    parts.path_and_query = request.uri().path_and_query().cloned();
    let uri = Uri::from_parts(parts).map_err(|_| UpstreamRejection::Target)?;
    let mut outbound = worker.client(bucket).request(request.method().clone(), uri).no_decompress();
    let nominated = Nominated::of(request.headers());
    for (name, value) in request.headers() {
        if bucket.client_headers.travel(name, &nominated) {
            outbound.headers_mut().append(name.clone(), value.clone());
        }
    }
    let host = destination.host(Addressing::Path, "").map_err(|_| UpstreamRejection::Target)?;
    outbound.headers_mut().insert(HOST, host);
    let length = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok());
    let sent = match request.headers().get(CONTENT_LENGTH).and_then(length) {
        Some(bytes) => outbound.send_body(SizedStream::new(bytes, payload)).await,
        None => outbound.send_body(NoBody::new()).await,
    };
    let response = sent.map_err(|error| UpstreamRejection::Reset(error.to_string()))?;
    let mut answer = HttpResponse::new(response.status());
    let nominated = Nominated::of(response.headers());
    for (name, value) in response.headers() {
        if travels_down(name, &nominated) {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    let length = response.headers().get(CONTENT_LENGTH).and_then(length);
    let body: BoxBody = match length {
        Some(bytes) => SizedStream::new(bytes, response).boxed(),
        None => BodyStream::new(response).boxed(),
    };
    debug_assert!(body.size() != BodySize::None);
    Ok(answer.set_body(body))
}
