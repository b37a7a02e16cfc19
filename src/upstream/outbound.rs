//! A request as it goes upstream: its target, its headers and its body, prepared once and built for each attempt.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::uri::{PathAndQuery, Scheme};
use actix_web::http::{Method, Uri, uri};
use bytes::Bytes;
use tidegate_actors::{CredentialId, KeyId, clock};
use tidegate_config::{Addressing, Checksums, ForwardedHeaders, Kind, ServerConfig};

use crate::auth::{AuthRejection, Proofs};
use crate::http::answer::REQUEST_ID;
use crate::http::edge::Head;
use crate::http::error::GatewayError;
use crate::router::Bucket;
use crate::s3::checksum::renewed;
use crate::s3::chunked::encode::Encoder;
use crate::s3::copy_source::{COPY_SOURCE, CopySource};
use crate::s3::naming::{self, Named};
use crate::s3::sign::{CONTENT_SHA256, EMPTY_SHA256, Signer};
use crate::s3::sigv4::query::{presigns, without_presigned_proof};
use crate::s3::upload::content_md5::Md5Header;
use crate::s3::{target, upload};
use crate::telemetry::record::Record;
use crate::upstream::UpstreamRejection;
use crate::upstream::body::RequestBody;
use crate::upstream::client::Client;
use crate::upstream::credentials::Injected;
use crate::upstream::deadline::Deadline;
use crate::upstream::destination::Destination;
use crate::upstream::forwarded::Forwarded;
use crate::upstream::headers::{ClientHeaders, Nominated, is_checksum_parameter, of_preflight};
use crate::upstream::incoming::{BucketListPage, Incoming};
use crate::upstream::intake::{self, Intake, Reframing, Taking};
use crate::upstream::store_clock::{ClockOffset, Skew};

/// Everything about a request that does not change between attempts.
pub(crate) struct Outbound {
    pub(crate) request: Incoming,
    pub(crate) target: PathAndQuery,
    pub(crate) body: RequestBody,
    nominated: Nominated,
    client_headers: Arc<ClientHeaders>,
    /// Headers that describe the client's connection.
    forwarded: Option<Forwarded>,
    copy_source: Option<HeaderValue>,
    /// The bucket, as the upstream calls it.
    bucket: String,
    addressing: Addressing,
    request_id: HeaderValue,
    content_sha256: Option<HeaderValue>,
    /// How the body goes on, where the client framed it.
    reframing: Option<Reframing>,
    /// The `Content-MD5` of a body that was read whole.
    md5_header: Md5Header,
    /// What of the client's headers is for the gateway alone.
    proofs: Proofs,
    /// An API's credentials, one of which goes with each attempt.
    injected: Option<Arc<Injected>>,
    /// The key that the client signed with.
    pub(crate) key: Option<KeyId>,
    /// Whether the body is another than the client's, so that its digests are computed anew.
    has_new_body: bool,
    /// Whether the next attempt goes over a connection that serves it alone.
    own_connection: bool,
    pub(super) resign: Resign,
}

/// Whether the request is signed once more because the store refused the time of its signature. That is done once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resign {
    NotYet,
    /// The next signature is made with this offset of the clock.
    With(ClockOffset),
    Done,
}

impl Resign {
    /// The offset for the next signature, if it is not the endpoint's.
    pub(super) fn take(&mut self) -> Option<ClockOffset> {
        let Self::With(offset) = *self else { return None };
        *self = Self::Done;
        Some(offset)
    }
}

/// Maps the target and takes the body in hand. `key` is whose request it is.
pub(crate) async fn prepare(
    request: Incoming,
    taking: Taking,
    (bucket, key): (&Bucket, Option<KeyId>),
    server: &ServerConfig,
    record: &Record,
) -> Result<Outbound, GatewayError> {
    let head = request.head();
    let named = naming::of(head.uri, head.headers, &server.base_domains);
    let names_key = request.names_presigned_key();
    let target = map_target(head, &named, bucket, names_key)?;
    let upstream_name = bucket.config.upstream.bucket.clone().unwrap_or_else(|| named.bucket.into_owned());
    let copy_source = if request.is_preflight() { None } else { map_copy_source(head, bucket)? };
    let sets = bucket.config.forwarded == ForwardedHeaders::Set;
    let forwarded = sets.then(|| Forwarded::of(head, record.request.peer, server));
    let Intake { body, content_sha256, reframing, md5_header } = intake::take(head, taking, bucket).await?;
    Ok(Outbound {
        nominated: Nominated::of(request.head().headers),
        client_headers: Arc::clone(&bucket.client_headers),
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
        proofs: bucket.proofs.clone(),
        injected: bucket.credentials.injected().cloned(),
        key,
        has_new_body: false,
        own_connection: false,
        resign: Resign::NotYet,
    })
}

/// A page of the store's list of buckets, which names no bucket. `key` is the client's whose list it is.
pub(crate) fn prepare_bucket_list(
    page: BucketListPage,
    (bucket, key): (&Bucket, Option<KeyId>),
    server: &ServerConfig,
    record: &Record,
) -> Result<Outbound, GatewayError> {
    let request = Incoming::BucketList(Box::new(page));
    let head = request.head();
    let target = head.uri.path_and_query().cloned().ok_or(UpstreamRejection::Target)?;
    let sets = bucket.config.forwarded == ForwardedHeaders::Set;
    Ok(Outbound {
        forwarded: sets.then(|| Forwarded::of(head, record.request.peer, server)),
        nominated: Nominated::of(head.headers),
        client_headers: Arc::clone(&bucket.client_headers),
        target,
        body: RequestBody::None,
        copy_source: None,
        bucket: String::new(),
        addressing: Addressing::Path,
        request_id: record.id.clone(),
        content_sha256: Some(HeaderValue::from_static(EMPTY_SHA256)),
        reframing: None,
        proofs: bucket.proofs.clone(),
        injected: None,
        key,
        has_new_body: false,
        md5_header: Md5Header::default(),
        own_connection: false,
        resign: Resign::NotYet,
        request,
    })
}

pub(super) fn idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE)
}

/// The same bytes, but for the bucket's name: it is moved and changed to where and what the upstream calls it. One that the upstream calls
/// the same stays as it was sent, encoded or not. With `names_key`, the parameters of a presigned URL stay, without their proof.
fn map_target(
    head: Head<'_>,
    Named { bucket: ours, addressing: from, .. }: &Named<'_>,
    bucket: &Bucket,
    names_key: bool,
) -> Result<PathAndQuery, UpstreamRejection> {
    let name = bucket.config.upstream.bucket.as_deref().unwrap_or(ours);
    let original = head.uri.path_and_query().ok_or(UpstreamRejection::Target)?;
    let is_s3 = bucket.config.kind == Kind::S3;
    let is_proof = bucket.proofs.filter(original.query().unwrap_or_default());
    let strips = bucket.config.upstream.integrity.checksums == Checksums::Strip;
    let ends_here =
        |pair: &str| (is_s3 && presigns(pair)) || is_proof(pair) || (strips && is_checksum_parameter(pair));
    let unsigned = match names_key {
        true => target::with_query(original, &without_presigned_proof(original.query().unwrap_or_default())),
        false => target::without(original, ends_here),
    };
    let original = unsigned.as_ref().unwrap_or(original);
    let mapped = match (bucket.config.kind, from, bucket.config.upstream.addressing) {
        (Kind::Http, Addressing::Path, _) | (Kind::S3, Addressing::Path, Addressing::Virtual) => {
            target::strip(original)
        }
        (Kind::S3, Addressing::Path, Addressing::Path) if name != ours => target::rename(original, name),
        (Kind::S3, Addressing::Virtual, Addressing::Path) => target::prefix(original, &target::path_of(name)),
        _ => Some(original.clone()),
    };
    mapped.ok_or(UpstreamRejection::Target)
}

/// The source must be in this same bucket entry; that the client may read it was checked before.
fn map_copy_source(head: Head<'_>, bucket: &Bucket) -> Result<Option<HeaderValue>, AuthRejection> {
    if bucket.config.kind != Kind::S3 {
        return Ok(head.headers.get(COPY_SOURCE).cloned());
    }
    let source = CopySource::of(head.headers, head.uri.query().unwrap_or_default())
        .map_err(|_| AuthRejection::CopySource)?;
    let Some(source) = source else { return Ok(None) };
    let name = bucket.config.upstream.bucket.as_ref().unwrap_or(&source.bucket);
    HeaderValue::try_from(source.value(name)).map(Some).map_err(|_| AuthRejection::CopySource)
}

impl Outbound {
    /// Whether the request may be sent once more (R3). A streamed body is gone with the first connection that took it.
    pub(crate) fn replays(&self) -> bool {
        idempotent(self.request.head().method) && self.has_body()
    }

    /// Whether the body is there to be sent, or sent once more.
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.body, RequestBody::Stream(None))
    }

    /// The offset to sign with once more after a refusal.
    pub(super) fn resigns(&self, skew: Option<&Skew>) -> Option<ClockOffset> {
        skew?.resign.filter(|_| self.resign == Resign::NotYet)
    }

    /// Puts a body in the place of the client's, which was read whole and verified.
    pub(crate) fn replace_body(&mut self, body: Bytes) {
        self.content_sha256 = Some(intake::hash(&body));
        self.body = RequestBody::Whole(body);
        self.has_new_body = true;
    }

    /// Has the next attempts go over a connection each that serves nothing else. False if that is so already.
    pub(crate) fn take_own_connection(&mut self) -> bool {
        !std::mem::replace(&mut self.own_connection, true)
    }

    /// Builds the request for one attempt at an endpoint, and frames a body that can be sent once.
    pub(crate) fn build(
        &mut self,
        client: &Client,
        (signer, credential): (Option<(&Signer, ClockOffset)>, Option<CredentialId>),
        destination: &Destination,
        (deadline, now): (Deadline, Instant),
    ) -> Option<awc::ClientRequest> {
        let target = destination.target(&self.target)?;
        let mut request = self.begin(client, destination, &target)?;
        let Head { method, headers: of_client, .. } = self.request.head();
        let is_preflight = self.request.is_preflight();
        let headers = request.headers_mut();
        for (name, value) in of_client {
            if self.client_headers.travel(name, &self.nominated)
                && (!is_preflight || of_preflight(name))
                && let Some(value) = self.proofs.taken_from(name, value)
            {
                headers.append(name.clone(), value.into_owned());
            }
        }
        if let Some(forwarded) = &self.forwarded {
            forwarded.write(headers);
        }
        deadline.tell(headers, now);
        headers.insert(header::HOST, destination.host(self.addressing, &self.bucket).ok()?);
        headers.insert(REQUEST_ID, self.request_id.clone());
        if let Some((injected, credential)) = self.injected.as_ref().zip(credential) {
            injected.add(credential, headers);
        }
        if let Some(source) = &self.copy_source {
            headers.insert(COPY_SOURCE, source.clone());
        }
        if let Some(Reframing { frame, trailing }) = &self.reframing {
            upload::headers::reframe(headers, frame.as_ref(), trailing);
        }
        if let Some(body) = self.body.whole().filter(|_| self.has_new_body) {
            renewed::renew(headers, body);
            // The answer is merged as plain text.
            headers.remove(header::ACCEPT_ENCODING);
        }
        // What the client said of its framing, or of another body, must not travel on, whether or not the request is signed.
        let is_said =
            signer.is_some() || self.reframing.is_some() || self.md5_header.is_replaced || self.has_new_body;
        if let Some(hash) = self.content_sha256.as_ref().filter(|_| is_said) {
            headers.insert(CONTENT_SHA256, hash.clone());
        }
        if let Some(body) = self.body.whole() {
            self.md5_header.write(headers, body);
        }
        let seed = signer.map(|(signer, offset)| {
            signer.sign(method.as_str(), &target, headers, offset.applied_to(clock::wall()))
        });
        if let RequestBody::Stream(Some(upload)) = &mut self.body
            && let Some(frame) = self.reframing.as_ref().and_then(|reframing| reframing.frame)
        {
            upload.frame(frame, Encoder::new(frame, seed));
        }
        Some(request)
    }

    /// A request without headers to this endpoint.
    fn begin(
        &self,
        client: &Client,
        destination: &Destination,
        target: &PathAndQuery,
    ) -> Option<awc::ClientRequest> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority =
            Some(destination.connection_for(self.addressing, &self.bucket, self.own_connection)?);
        parts.path_and_query = Some(target.clone());
        let uri = Uri::from_parts(parts).ok()?;
        let request = client.request(self.request.head().method.clone(), uri).no_decompress();
        if self.own_connection {
            return Some(request.force_close());
        }
        if destination.keeps_connections_by_bucket() {
            client.note_bucket(&self.bucket);
        }
        Some(request)
    }
}
