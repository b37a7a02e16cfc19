//! GET requests that the gateway itself sends to one endpoint: health checks (P5) and credential checks (C3).
//!
//! Each uses a separate connection, with the TLS, `Host` and signature of the bucket's requests. If the store refuses
//! the time of the signature, the request is signed once more with the store's time (`rules/store_clock.rs`). The caller
//! has the timeouts and any other retries. No bytes of a client are sent.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use thiserror::Error;
use tidegate_actors::{CredentialId, EndpointId, clock};
use tidegate_config::{Addressing, Kind};
use tidegate_s3::signer::Signer;
use tidegate_s3::sigv4::EMPTY_SHA256;

use crate::request_head::{CONTENT_SHA256, HeaderEditor};
use crate::shortage::Shortage;
use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::response_head::{CallInfo, inspect_head};
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::client::signing_credentials;
use crate::upstream::exchange::internal_request::InternalClient;
use crate::upstream::exchange::outbound_head::OutboundHead;
use crate::upstream::exchange::send_error::SendError;
use crate::upstream::exchange::sent_request::ResponseParts;
use crate::upstream::rules::store_clock::{ClockOffset, ClockSkew};

/// Why there is no response.
#[derive(Debug, Error)]
pub(crate) enum InternalCallError {
    #[error("{0}")]
    Call(#[from] SendError),
    #[error("the request cannot be signed: {0}")]
    Unsigned(&'static str),
    #[error("the path is not a valid request target")]
    Path,
    #[error("the store refuses the time of the gateway's signature: {0}")]
    Clock(String),
}

/// The response to an internal call.
pub(crate) struct InternalResponse {
    pub(crate) status: u16,
    /// The error code, if the document was read.
    pub(crate) code: Option<String>,
}

impl InternalCallError {
    /// The shortage in the gateway that kept the call from being sent.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Call(error) => error.shortage(),
            _ => None,
        }
    }
}

/// An internal call.
pub(crate) struct InternalCall<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) endpoint: EndpointId,
    /// Path and query for the endpoint.
    pub(crate) target: &'a str,
    /// The bucket in `Host`, for a store with virtual addressing.
    pub(crate) host_bucket: Option<&'a str>,
    pub(crate) identity: CallIdentity,
}

impl InternalCall<'_> {
    fn addressing(&self) -> Addressing {
        if self.host_bucket.is_some() { Addressing::Virtual } else { Addressing::Path }
    }
}

/// The credential of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallIdentity {
    /// The bucket's only one, if it has one.
    Bucket,
    /// One of several.
    Credential(CredentialId),
    /// None.
    Anonymous,
}

/// Sends the call and waits for the response head, and for the error code if it matters.
pub(crate) async fn send(
    http: &InternalClient,
    call: InternalCall<'_>,
) -> Result<InternalResponse, InternalCallError> {
    let clock = call.bucket.clock(call.endpoint);
    let (mut response, mut skew) = send_once(http, &call, clock.offset(clock::now())).await?;
    if let Some(offset) = skew.as_ref().and_then(|skew| skew.retry_offset) {
        (response, skew) = send_once(http, &call, offset).await?;
    }
    match skew {
        Some(skew) => Err(InternalCallError::Clock(skew.detail)),
        None => Ok(response),
    }
}

/// Sends the call once. The signature time is shifted by `offset`.
async fn send_once(
    http: &InternalClient,
    call: &InternalCall<'_>,
    offset: ClockOffset,
) -> Result<(InternalResponse, Option<ClockSkew>), InternalCallError> {
    let bucket = call.bucket;
    let (request, is_signed) = build_request(call, offset)?;
    let call_info = CallInfo {
        kind: bucket.config.kind,
        method: &Method::GET,
        signed_offset: is_signed.then_some(offset),
        region: &bucket.signing_region,
        deadline: clock::now() + bucket.config.upstream.timeout,
    };
    let destination = &bucket.destinations[call.endpoint.0];
    let tls_bucket = destination.tls_bucket(call.addressing(), call.host_bucket.unwrap_or_default());
    let response = http.send(call.endpoint.0, tls_bucket.ok_or(InternalCallError::Path)?, request).await?;
    let status = response.status().as_u16();
    let inspected = inspect_head(response, call_info).await;
    let skew = inspected.report_clock(bucket.clock(call.endpoint));
    if skew.is_some() {
        bucket.metrics.clock_refused.inc();
    }
    Ok((InternalResponse { status, code: inspected.code }, skew))
}

/// Builds the request. The second value is whether it is signed.
fn build_request(
    call: &InternalCall<'_>,
    offset: ClockOffset,
) -> Result<(OutboundHead, bool), InternalCallError> {
    let InternalCall { bucket, endpoint, target, host_bucket, identity } = *call;
    let destination = &bucket.destinations[endpoint.0];
    let target: PathAndQuery = target.parse().map_err(|_| InternalCallError::Path)?;
    let host = destination.host(call.addressing(), host_bucket.unwrap_or_default());
    let mut request = OutboundHead::new(Method::GET, target.clone());
    request.headers.insert(header::HOST, host.map_err(|_| InternalCallError::Path)?);
    let credential = match identity {
        CallIdentity::Credential(credential) => Some(credential),
        CallIdentity::Bucket | CallIdentity::Anonymous => None,
    };
    if let Some((injected, credential)) = bucket.credentials.injected().zip(credential) {
        injected.insert(credential, &mut request.headers);
    }
    if bucket.config.kind != Kind::S3 || identity == CallIdentity::Anonymous {
        return Ok((request, false));
    }
    let now = clock::wall();
    let Some(credentials) =
        bucket.credentials.of_credential(credential).current(now).map_err(map_rejection)?
    else {
        return Ok((request, false));
    };
    let signer = Signer::new(signing_credentials(&credentials), bucket.config.upstream.region.clone());
    request.headers.insert(CONTENT_SHA256, HeaderValue::from_static(EMPTY_SHA256));
    signer.sign("GET", target.as_str(), &mut HeaderEditor(&mut request.headers), offset.applied_to(now));
    Ok((request, true))
}

fn map_rejection(rejection: UpstreamRejection) -> InternalCallError {
    match rejection {
        UpstreamRejection::NoCredentials(why) => InternalCallError::Unsigned(why),
        _ => InternalCallError::Path,
    }
}
