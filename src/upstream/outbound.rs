//! A request as it goes upstream: its target, its headers and its body, prepared once and built for each attempt.

use std::mem;
use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::body::BodySize;
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::uri::{Authority, PathAndQuery, Scheme};
use actix_web::http::{Method, Uri, uri};
use sha2::{Digest, Sha256};
use tidegate_actors::{KeyId, clock};
use tidegate_config::Kind;

use crate::auth::{AuthRejection, Caller, payload_of};
use crate::http::answer::REQUEST_ID;
use crate::http::edge::BodyLength;
use crate::http::error::GatewayError;
use crate::router::Bucket;
use crate::s3::copy_source::{COPY_SOURCE, CopySource};
use crate::s3::sign::{CONTENT_SHA256, EMPTY_SHA256, UNSIGNED_PAYLOAD};
use crate::s3::sigv4::PayloadHash;
use crate::s3::target;
use crate::telemetry::record::Record;
use crate::upstream::UpstreamRejection;
use crate::upstream::body::{REPLAY_BYTES_MAX, RequestBody, Upload, read_whole};
use crate::upstream::client::Client;
use crate::upstream::headers::{Nominated, travels_up};

/// Everything about a request that does not change between attempts.
pub(crate) struct Outbound {
    pub(crate) request: HttpRequest,
    pub(crate) target: PathAndQuery,
    pub(crate) body: RequestBody,
    nominated: Nominated,
    copy_source: Option<HeaderValue>,
    request_id: HeaderValue,
    content_sha256: Option<HeaderValue>,
    /// The key that the client signed with.
    key: Option<KeyId>,
}

/// Maps the target and takes the body in hand.
pub(crate) async fn prepare(
    request: HttpRequest,
    payload: &mut Payload,
    length: BodyLength,
    (bucket, caller): (&Bucket, &Caller),
    record: &mut Record,
) -> Result<Outbound, GatewayError> {
    let target = map_target(&request, bucket)?;
    let copy_source = map_copy_source(&request, bucket)?;
    if let Some(PayloadHash::SignedChunks { .. }) = payload_of(caller, request.headers()) {
        return Err(UpstreamRejection::SignedChunks.into());
    }
    let replays = idempotent(request.method());
    let flow = &record.flow;
    let body = match length {
        // Said with a length even where the client left it out: servers are stricter than HTTP.
        BodyLength::Empty
            if takes_body(request.method()) || request.headers().contains_key(header::CONTENT_LENGTH) =>
        {
            RequestBody::Whole(Default::default())
        }
        BodyLength::Empty => RequestBody::None,
        BodyLength::Known(bytes) if replays && bytes <= REPLAY_BYTES_MAX => {
            RequestBody::Whole(read_whole(payload, bytes, bucket.config.upstream.idle_timeout, flow).await?)
        }
        BodyLength::Known(bytes) => {
            stream(mem::replace(payload, Payload::None), BodySize::Sized(bytes), bucket, record)
        }
        BodyLength::Chunked => stream(mem::replace(payload, Payload::None), BodySize::Stream, bucket, record),
    };
    let content_sha256 = (bucket.config.kind == Kind::S3).then(|| payload_hash(request.headers(), &body));
    Ok(Outbound {
        nominated: Nominated::of(request.headers()),
        request,
        target,
        body,
        copy_source,
        request_id: record.id.clone(),
        content_sha256,
        key: caller.key(),
    })
}

fn stream(payload: Payload, size: BodySize, bucket: &Bucket, record: &Record) -> RequestBody {
    let limit = bucket.config.max_request_size;
    RequestBody::Stream(Some(Upload { payload, size, limit, flow: Rc::clone(&record.flow), handed: 0 }))
}

fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::PUT | Method::POST)
}

fn idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE)
}

fn map_target(request: &HttpRequest, bucket: &Bucket) -> Result<PathAndQuery, UpstreamRejection> {
    let original = request.uri().path_and_query().ok_or(UpstreamRejection::Target)?;
    let upstream = &bucket.config.upstream;
    let mapped = match bucket.config.kind {
        Kind::Http => Some(target::strip(original).ok_or(UpstreamRejection::Target)?),
        Kind::S3 => {
            let unsigned = target::without_presigning(original);
            let original = unsigned.as_ref().unwrap_or(original);
            let name = upstream.bucket.as_deref().filter(|name| *name != target::split(original.path()).0);
            match name {
                Some(name) => Some(target::rename(original, name).ok_or(UpstreamRejection::Target)?),
                None => unsigned,
            }
        }
    };
    Ok(mapped.unwrap_or_else(|| original.clone()))
}

/// The source must be in this same bucket entry; that the client may read it was checked before.
fn map_copy_source(request: &HttpRequest, bucket: &Bucket) -> Result<Option<HeaderValue>, AuthRejection> {
    if bucket.config.kind != Kind::S3 {
        return Ok(request.headers().get(COPY_SOURCE).cloned());
    }
    let source =
        CopySource::of(request.headers(), request.query_string()).map_err(|_| AuthRejection::CopySource)?;
    let Some(source) = source else { return Ok(None) };
    let name = bucket.config.upstream.bucket.as_ref().unwrap_or(&source.bucket);
    HeaderValue::try_from(source.value(name)).map(Some).map_err(|_| AuthRejection::CopySource)
}

/// The client's own hash where it gave one, so that the store verifies what the client meant.
fn payload_hash(headers: &HeaderMap, body: &RequestBody) -> HeaderValue {
    let given = headers.get(CONTENT_SHA256).filter(|value| {
        let bytes = value.as_bytes();
        bytes == b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
            || (bytes.len() == 64 && bytes.iter().all(u8::is_ascii_hexdigit))
    });
    match (given, body) {
        (Some(given), _) => given.clone(),
        (None, RequestBody::None) => HeaderValue::from_static(EMPTY_SHA256),
        (None, RequestBody::Whole(bytes)) => HeaderValue::try_from(hex::encode(Sha256::digest(bytes)))
            .unwrap_or_else(|_| HeaderValue::from_static(UNSIGNED_PAYLOAD)),
        (None, RequestBody::Stream(_)) => HeaderValue::from_static(UNSIGNED_PAYLOAD),
    }
}

impl Outbound {
    /// Whether the request may be sent a second time (R3).
    pub(crate) fn replays(&self) -> bool {
        idempotent(self.request.method()) && !matches!(self.body, RequestBody::Stream(_))
    }

    /// Builds the request for one attempt at an endpoint.
    pub(crate) fn build(
        &self,
        client: &Client,
        authority: &Authority,
        prefix: &str,
        kind: Kind,
    ) -> Option<awc::ClientRequest> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority.clone());
        let prefixed =
            if prefix.is_empty() { Some(self.target.clone()) } else { target::prefix(&self.target, prefix) };
        parts.path_and_query = Some(prefixed?);
        let uri = Uri::from_parts(parts).ok()?;
        let method = self.request.method();
        let mut request = client.http.request(method.clone(), uri).no_decompress();
        let headers = request.headers_mut();
        for (name, value) in self.request.headers() {
            if travels_up(name, kind, &self.nominated) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.insert(header::HOST, HeaderValue::from_str(authority.as_str()).ok()?);
        headers.insert(REQUEST_ID, self.request_id.clone());
        if let Some(source) = &self.copy_source {
            headers.insert(COPY_SOURCE, source.clone());
        }
        if let Some(signer) = client.signer(self.key) {
            if let Some(hash) = &self.content_sha256 {
                headers.insert(CONTENT_SHA256, hash.clone());
            }
            signer.sign(method.as_str(), &self.target, headers, clock::wall());
        }
        Some(request)
    }
}
