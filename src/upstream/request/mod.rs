//! An upstream request: target, headers and body are prepared once and built into a request for each attempt.

pub(crate) mod body_plan;
pub(crate) mod proxied_request;

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use bytes::Bytes;
use tidegate_actors::{CredentialId, KeyId, clock};
use tidegate_config::{Addressing, Checksums, ForwardedHeaders, Kind, ServerConfig};
use tidegate_s3::addressing::{self, NamedResource};
use tidegate_s3::checksum::body_digests;
use tidegate_s3::chunked::encode::Encoder;
use tidegate_s3::copy_source::CopySource;
use tidegate_s3::signer::Signer;
use tidegate_s3::sigv4::EMPTY_SHA256;
use tidegate_s3::sigv4::query::{is_presign_parameter, without_presigned_proof};
use tidegate_s3::target;
use tidegate_s3::upload::content_md5::Md5Header;
use tidegate_s3::upload::framing_headers::rewrite_framing_headers;

use crate::auth::AcceptedAuth;
use crate::boxed::boxed;
use crate::buffers::body_memory::BodyReservation;
use crate::request_head::{CONTENT_SHA256, COPY_SOURCE, Head, HeaderEditor};
use crate::upstream::UpstreamRejection;
use crate::upstream::body::RequestBody;
use crate::upstream::bucket::Bucket;
use crate::upstream::connect::destination::Destination;
use crate::upstream::credentials::InjectedHeaders;
use crate::upstream::exchange::outbound_head::OutboundHead;
use crate::upstream::exchange::sent_request::{ConnectionChoice, OutboundRequest};
use crate::upstream::headers::filter::{
    ConnectionOptions, RequestHeaderFilter, forwards_in_preflight, is_checksum_parameter,
};
use crate::upstream::headers::forwarded::ForwardingHeaders;
use crate::upstream::headers::names::REQUEST_ID;
use crate::upstream::record::Record;
use crate::upstream::request::body_plan::{BodyPlan, PreparedBody, Reframing};
use crate::upstream::request::proxied_request::{BucketListPage, ProxiedRequest};
use crate::upstream::rules::conditional_write;
use crate::upstream::rules::deadline::Deadline;
use crate::upstream::rules::retry::is_idempotent;
use crate::upstream::rules::store_clock::{ClockOffset, ClockSkew};

/// The parts of a request that do not change between attempts.
pub(crate) struct UpstreamRequest {
    pub(crate) request: ProxiedRequest,
    pub(crate) target: PathAndQuery,
    pub(crate) body: RequestBody,
    connection_options: ConnectionOptions,
    header_filter: Arc<RequestHeaderFilter>,
    /// Headers that describe the client's connection.
    forwarded: Option<ForwardingHeaders>,
    copy_source: Option<HeaderValue>,
    /// The upstream's name of the bucket.
    bucket: String,
    addressing: Addressing,
    request_id: HeaderValue,
    content_sha256: Option<HeaderValue>,
    /// The framing of a body that the client framed.
    reframing: Option<Reframing>,
    /// The `Content-MD5` of a body that was read whole.
    md5_header: Md5Header,
    /// Selects the client's headers that are for the gateway only.
    accepted_auth: AcceptedAuth,
    /// The credentials of an API. Each attempt sends one of them.
    injected: Option<Arc<InjectedHeaders>>,
    /// The key that the client signed with.
    pub(crate) key: Option<KeyId>,
    /// Whether the gateway reads a document in the response, which must not be compressed.
    pub(crate) needs_plain_response: bool,
    /// Whether the body differs from the client's, so that its digests are recomputed.
    is_body_replaced: bool,
    /// Whether the next attempt uses a single-use connection.
    needs_own_connection: bool,
    pub(crate) signature_retry: SignatureRetry,
    /// The memory of the body, held until its last attempt has ended.
    _memory: Option<BodyReservation>,
}

/// State of the one repeated signature after the store refused the time of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureRetry {
    Unused,
    /// The next signature uses this clock offset.
    WithOffset(ClockOffset),
    Done,
}

impl SignatureRetry {
    /// The offset for the next signature, if it differs from the endpoint's.
    pub(crate) fn take_offset(&mut self) -> Option<ClockOffset> {
        let Self::WithOffset(offset) = *self else { return None };
        *self = Self::Done;
        Some(offset)
    }
}

/// Maps the target and prepares the body. `key` is the client's key. The result is boxed, because it is large and moved often.
pub(crate) async fn prepare(
    request: ProxiedRequest,
    plan: BodyPlan,
    (bucket, key): (&Bucket, Option<KeyId>),
    server: &ServerConfig,
    record: &Record,
) -> Result<Box<UpstreamRequest>, UpstreamRejection> {
    let head = request.head();
    let named = addressing::resolve(head, &server.base_domains);
    let keeps_presigned_key = request.names_presigned_key();
    let target = map_target(head, &named, bucket, keeps_presigned_key)?;
    let upstream_name = bucket.config.upstream.bucket.clone().unwrap_or_else(|| named.bucket.into_owned());
    let copy_source = if request.is_preflight() { None } else { map_copy_source(head, bucket)? };
    let sets_forwarded = bucket.config.forwarded == ForwardedHeaders::Set;
    let forwarded = sets_forwarded.then(|| ForwardingHeaders::of(head, record.request.peer, server));
    let PreparedBody { body, content_sha256, reframing, md5_header, memory } =
        body_plan::prepare_body(head, plan, bucket, record).await?;
    Ok(boxed!(UpstreamRequest {
        needs_plain_response: false,
        connection_options: ConnectionOptions::of(request.head().headers),
        header_filter: Arc::clone(&bucket.header_filter),
        forwarded,
        request,
        target,
        body,
        copy_source,
        bucket: upstream_name,
        addressing: bucket.config.upstream.addressing,
        request_id: record.id.clone(),
        content_sha256,
        reframing,
        md5_header,
        accepted_auth: bucket.accepted_auth.clone(),
        injected: bucket.credentials.injected().cloned(),
        key,
        is_body_replaced: false,
        needs_own_connection: false,
        signature_retry: SignatureRetry::Unused,
        _memory: memory,
    }))
}

/// A request for a page of the store's list of buckets. It names no bucket. `key` is the client's key.
pub(crate) fn prepare_bucket_list(
    page: BucketListPage,
    (bucket, key): (&Bucket, Option<KeyId>),
    server: &ServerConfig,
    record: &Record,
) -> Result<Box<UpstreamRequest>, UpstreamRejection> {
    let request = ProxiedRequest::BucketList(Box::new(page));
    let head = request.head();
    let target = head.uri.path_and_query().cloned().ok_or(UpstreamRejection::InvalidTarget)?;
    let sets_forwarded = bucket.config.forwarded == ForwardedHeaders::Set;
    Ok(Box::new(UpstreamRequest {
        forwarded: sets_forwarded.then(|| ForwardingHeaders::of(head, record.request.peer, server)),
        connection_options: ConnectionOptions::of(head.headers),
        header_filter: Arc::clone(&bucket.header_filter),
        target,
        body: RequestBody::None,
        needs_plain_response: false,
        copy_source: None,
        bucket: String::new(),
        addressing: Addressing::Path,
        request_id: record.id.clone(),
        content_sha256: Some(HeaderValue::from_static(EMPTY_SHA256)),
        reframing: None,
        accepted_auth: bucket.accepted_auth.clone(),
        injected: None,
        key,
        is_body_replaced: false,
        md5_header: Md5Header::default(),
        needs_own_connection: false,
        signature_retry: SignatureRetry::Unused,
        _memory: None,
        request,
    }))
}

/// Maps the target. Only the bucket's name changes: to the upstream's name, in the place where the upstream expects
/// it. If the upstream has the same name, its bytes stay as sent, encoded or not. With `names_key`, the parameters of
/// a presigned URL stay, without the signature.
fn map_target(
    head: Head<'_>,
    NamedResource { bucket: client_name, addressing: from, .. }: &NamedResource<'_>,
    bucket: &Bucket,
    keeps_presigned_key: bool,
) -> Result<PathAndQuery, UpstreamRejection> {
    let name = bucket.config.upstream.bucket.as_deref().unwrap_or(client_name);
    let original = head.uri.path_and_query().ok_or(UpstreamRejection::InvalidTarget)?;
    let is_s3 = bucket.config.kind == Kind::S3;
    let is_proof = bucket.accepted_auth.auth_parameter_filter(original.query().unwrap_or_default());
    let strips_checksums = bucket.config.upstream.integrity.checksums == Checksums::Strip;
    let is_removed = |pair: &str| {
        (is_s3 && !keeps_presigned_key && is_presign_parameter(pair))
            || is_proof(pair)
            || (strips_checksums && is_checksum_parameter(pair))
    };
    let named = original.query().filter(|_| keeps_presigned_key);
    let named = named.map(|query| target::with_query(original.as_str(), &without_presigned_proof(query)));
    let text = named.as_deref().unwrap_or(original.as_str());
    let unsigned = target::remove_parameters(text, is_removed);
    let text = unsigned.as_deref().unwrap_or(text);
    let mapped = match (bucket.config.kind, from, bucket.config.upstream.addressing) {
        (Kind::Http, Addressing::Path, _) | (Kind::S3, Addressing::Path, Addressing::Virtual) => {
            Some(target::strip_bucket(text))
        }
        (Kind::S3, Addressing::Path, Addressing::Path) if name != client_name => {
            Some(target::replace_bucket(text, name))
        }
        (Kind::S3, Addressing::Virtual, Addressing::Path) => {
            Some(target::add_prefix(text, &target::bucket_path(name)))
        }
        _ => None,
    };
    match mapped.or(unsigned).or(named) {
        Some(target) => target.parse().map_err(|_| UpstreamRejection::InvalidTarget),
        None => Ok(original.clone()),
    }
}

/// Maps the copy source. It must be in this same bucket section. The read permission of the client was checked
/// before.
fn map_copy_source(head: Head<'_>, bucket: &Bucket) -> Result<Option<HeaderValue>, UpstreamRejection> {
    if bucket.config.kind != Kind::S3 {
        return Ok(head.find(&COPY_SOURCE).cloned());
    }
    let source = CopySource::from_request(head.header_view(), head.uri.query().unwrap_or_default())
        .map_err(|_| UpstreamRejection::CopySourceDenied)?;
    let Some(source) = source else { return Ok(None) };
    let name = bucket.config.upstream.bucket.as_ref().unwrap_or(&source.bucket);
    HeaderValue::try_from(source.header_value(name))
        .map(Some)
        .map_err(|_| UpstreamRejection::CopySourceDenied)
}

impl UpstreamRequest {
    /// The request head, as if a client had sent it.
    pub(crate) fn head(&self) -> Head<'_> {
        self.request.head()
    }

    /// Whether the request may be sent again (R3). A streamed body is consumed by the first connection that takes it.
    pub(crate) fn is_replayable(&self) -> bool {
        is_idempotent(self.request.head().method) && self.has_body()
    }

    /// Whether the body is available, for the first attempt or another one.
    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.body, RequestBody::Stream(None))
    }

    /// The clock offset for a repeated signature after a refusal.
    pub(crate) fn signature_retry_offset(&self, skew: Option<&ClockSkew>) -> Option<ClockOffset> {
        skew?.retry_offset.filter(|_| self.signature_retry == SignatureRetry::Unused)
    }

    /// Replaces the client's body, which was read whole and verified.
    pub(crate) fn replace_body(&mut self, body: Bytes) {
        self.content_sha256 = Some(body_plan::payload_digest(&body));
        self.body = RequestBody::Buffered(body);
        self.is_body_replaced = true;
    }

    /// Makes the next attempts use single-use connections. False if that was set before.
    pub(crate) fn require_own_connection(&mut self) -> bool {
        !std::mem::replace(&mut self.needs_own_connection, true)
    }

    /// Builds the request for one attempt at an endpoint, and frames a streamed body.
    pub(crate) fn build(
        &mut self,
        (signer, credential): (Option<(&Signer, ClockOffset)>, Option<CredentialId>),
        destination: &Destination,
        (deadline, now): (Deadline, Instant),
    ) -> Option<OutboundRequest> {
        let target = destination.target(&self.target)?;
        let mut request = self.new_request(destination, &target)?;
        let Head { method, headers: client_headers, .. } = self.request.head();
        let is_preflight = self.request.is_preflight();
        let headers = &mut request.head.headers;
        for (name, value) in client_headers {
            if self.header_filter.forwards(name, &self.connection_options)
                && (!is_preflight || forwards_in_preflight(name))
                && let Some(value) = self.accepted_auth.strip_header(name, value)
            {
                headers.append(name.clone(), value.into_owned());
            }
        }
        if let Some(forwarded) = &self.forwarded {
            forwarded.write(headers);
        }
        deadline.write(headers, now);
        headers.insert(header::HOST, destination.host(self.addressing, &self.bucket).ok()?);
        headers.insert(REQUEST_ID, self.request_id.clone());
        if let Some((injected, credential)) = self.injected.as_ref().zip(credential) {
            injected.insert(credential, headers);
        }
        if let Some(source) = &self.copy_source {
            headers.insert(COPY_SOURCE, source.clone());
        }
        if let Some(Reframing { frame, trailing }) = &self.reframing {
            rewrite_framing_headers(&mut HeaderEditor(headers), frame.as_ref(), trailing);
        }
        if let Some(body) = self.body.buffered().filter(|_| self.is_body_replaced) {
            body_digests::recompute(&mut HeaderEditor(headers), body);
        }
        // Without the header any coding would be acceptable (RFC 9110, 12.5.3).
        if self.is_body_replaced || self.needs_plain_response {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        // The client's values for its framing or for a replaced body must not be sent, whether or not the request is
        // signed.
        let is_sent = signer.is_some()
            || self.reframing.is_some()
            || self.md5_header.is_replaced
            || self.is_body_replaced;
        if let Some(hash) = self.content_sha256.as_ref().filter(|_| is_sent) {
            headers.insert(CONTENT_SHA256, hash.clone());
        }
        if let Some(body) = self.body.buffered() {
            self.md5_header.write(&mut HeaderEditor(headers), body);
        }
        let seed = signer.map(|(signer, offset)| {
            let now = offset.applied_to(clock::wall());
            signer.sign(method.as_str(), target.as_str(), &mut HeaderEditor(headers), now)
        });
        if let RequestBody::Stream(Some(upload)) = &mut self.body
            && let Some(frame) = self.reframing.as_ref().and_then(|reframing| reframing.frame)
        {
            upload.set_framing(frame, Encoder::new(frame, seed));
        }
        Some(request)
    }

    /// A request without headers to this endpoint.
    fn new_request(&self, destination: &Destination, target: &PathAndQuery) -> Option<OutboundRequest> {
        let tls_bucket = destination.tls_bucket(self.addressing, &self.bucket)?;
        let connection =
            ConnectionChoice { tls_bucket: tls_bucket.into(), is_single_use: self.needs_own_connection };
        let head = OutboundHead::new(self.request.head().method.clone(), target.clone());
        Some(OutboundRequest { connection, head, may_resend: self.may_resend_written() })
    }

    /// Whether the request may be sent again after it was written to a reused connection that was closed.
    fn may_resend_written(&self) -> bool {
        let Head { method, headers, uri, .. } = self.request.head();
        let is_idempotent = is_idempotent(method) || self.request.is_preflight();
        is_idempotent && !conditional_write::is_conditional(method, headers, uri.query().unwrap_or_default())
    }
}
