//! The raw path for benchmarks: from the client to the upstream and back, without actor messages, logs and metrics (cargo feature
//! `bench`).
//!
//! It measures the cost of the guards. Routing, the header filters and the HTTP client are the same as on the guarded
//! path.

use std::rc::Rc;

use actix_http::{Payload, RequestHead};
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tidegate_actors::EndpointId;
use tidegate_config::Addressing;
use tidegate_s3::addressing;
use tidegate_s3::target;

use crate::http::client_request::ClientRequest;
use crate::http::error::GatewayError;
use crate::http::error_reply::ReplyContext;
use crate::upstream::exchange::outbound_head::OutboundHead;
use crate::upstream::exchange::request_writer::OutboundBody;
use crate::upstream::exchange::sent_request::{ConnectionChoice, ExchangeObservers, OutboundRequest};
use crate::upstream::headers::filter::{ConnectionOptions, forwards_to_client};
use crate::upstream::{ProxyBody, UpstreamRejection};
use crate::worker::Worker;

/// The largest body; it is read whole.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Forwards one request and its response.
pub(crate) async fn forward(worker: &Rc<Worker>, request: ClientRequest) -> HttpResponse<ProxyBody> {
    let ClientRequest { head, payload, .. } = request;
    let response = call(worker, &head, payload).await.unwrap_or_else(|error| {
        let id = HeaderValue::from_static("raw");
        let kind = tidegate_config::Kind::S3;
        let region = worker.shared.regions.advertised(None);
        let to = ReplyContext { kind, resource: head.uri.path(), request_id: &id, region };
        error.to_reply().to_response(&to)
    });
    response.map_body(|_, body| ProxyBody::Local(body, None))
}

async fn read_whole(mut payload: Payload) -> Result<Bytes, UpstreamRejection> {
    let mut whole = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|_| UpstreamRejection::ClientGone)?;
        if whole.len() + piece.len() > BODY_BYTES_MAX {
            return Err(UpstreamRejection::BodyTooLarge { limit: BODY_BYTES_MAX as u64 });
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

async fn call(worker: &Worker, client: &RequestHead, payload: Payload) -> Result<HttpResponse, GatewayError> {
    let name = addressing::decode_bucket_name(target::split_bucket(client.uri.path()).0);
    let bucket = worker.shared.router.route(&name)?;
    let destination = &bucket.destinations[0];
    let target = client.uri.path_and_query().cloned().ok_or(UpstreamRejection::InvalidTarget)?;
    let mut head = OutboundHead::new(client.method.clone(), target);
    let nominated = ConnectionOptions::of(&client.headers);
    for (name, value) in &client.headers {
        if bucket.header_filter.forwards(name, &nominated) {
            head.headers.append(name.clone(), value.clone());
        }
    }
    let host = destination.host(Addressing::Path, "").map_err(|_| UpstreamRejection::InvalidTarget)?;
    head.headers.insert(HOST, host);
    let length = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok());
    let body = match client.headers.get(CONTENT_LENGTH).and_then(length) {
        Some(_) => OutboundBody::Buffered(read_whole(payload).await?),
        None => OutboundBody::None,
    };
    let outbound = OutboundRequest { head, connection: ConnectionChoice::default(), may_resend: false };
    let sent = worker.client(bucket).send(EndpointId(0), outbound, body, ExchangeObservers::default()).await;
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
