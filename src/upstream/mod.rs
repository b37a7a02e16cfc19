//! The upstream call: attempts, timeouts, classification of responses, and the forwarding of the response body.
//!
//! `call` implements the policy: breaker ticket, attempt, classification, and possibly a retry. `Drop` releases
//! permits and tickets on every path. Actors, authentication and local responses are not part of this module.
//!
//! Design: `docs/design/retries-and-hedging.md`, `uploads.md`, `connections.md` and `failure-attribution.md`.

mod appended_errors;
mod attempt_result;
pub(crate) mod body;
mod body_plan;
mod body_writer;
pub(crate) mod bucket;
mod bucket_region;
mod call;
mod call_context;
mod call_resources;
mod circuit_wait;
pub(crate) mod client;
mod clock_measurement;
mod collect;
mod conditional_write;
mod connection;
mod connection_key;
pub(crate) mod credential_check;
mod credential_feedback;
pub(crate) mod credentials;
pub(crate) mod deadline;
pub(crate) mod destination;
pub(crate) mod dialer;
mod discard_body;
mod dns_cache;
mod error_document;
mod failure_attribution;
mod forwarded;
mod head_scan;
pub(crate) mod header_filter;
pub(crate) mod header_names;
pub(crate) mod health;
mod hedge;
mod internal_call;
pub(crate) mod late_calls;
mod misdirected;
mod outcome;
mod prepared_call;
mod proxied_request;
mod proxy_body;
pub(crate) mod reachability;
pub(crate) mod record;
mod rename_plan;
mod request;
mod request_host;
mod resolver;
mod response;
pub(crate) mod response_body;
mod response_head;
mod response_source;
mod response_transfer;
mod retry;
pub(crate) mod store_clock;
mod stream;
mod timeouts;
pub(crate) mod tls;
pub(crate) mod tls_failure;
pub(crate) mod upload_progress;

use crate::shortage::Shortage;
use crate::upstream::store_clock::ClockSkew;
use crate::upstream::tls_failure::TlsFailure;
use actix_web::http::StatusCode;
use tidegate_actors::{BreakerRejection, PoolRejection};
use tidegate_s3::upload::UploadFault;

pub(crate) use appended_errors::DeniedErrors;
pub(crate) use body_plan::{BodyPlan, declared_body};
pub(crate) use bucket_region::RegionHeader;
pub(crate) use call::{UpstreamGrant, call};
pub(crate) use call_resources::CallResources;
pub(crate) use circuit_wait::{is_replayable, may_wait_for_circuit};
pub(crate) use collect::{CollectError, CollectLimits, collect};
pub(crate) use discard_body::discard_body;
pub(crate) use error_document::error_code;
pub(crate) use proxied_request::{BucketListPage, FormUpload, PresignedQuery, ProxiedRequest};
pub(crate) use proxy_body::ProxyBody;
pub(crate) use rename_plan::{client_scheme, rename_plan};
pub(crate) use request::{UpstreamRequest, prepare, prepare_bucket_list};
pub(crate) use request_host::RequestHost;
pub(crate) use response_body::{ResponseForward, forward_response};
pub(crate) use response_head::shortage_of;
pub(crate) use timeouts::TimeoutKind;

/// Why there is no response to forward.
#[derive(Debug, Clone)]
pub(crate) enum UpstreamRejection {
    /// The gateway lacked descriptors, ports or memory for the connection.
    Shortage(Shortage),
    /// No connection could be made.
    Connect(String),
    /// The TLS handshake failed: untrusted certificate, or no common TLS version.
    TlsRejected(TlsFailure),
    /// The endpoint's certificate is not valid for the name in `Host`, which was the TLS server name.
    HostNotInCertificate(String),
    /// There are no credentials to sign with, for this reason.
    NoCredentials(&'static str),
    /// The store refuses the time of the gateway's signature.
    ClockSkew(ClockSkew),
    /// The connection broke before the response head was complete.
    Reset(String),
    /// The response head is not valid HTTP.
    Decode(String),
    /// A success to a multi-delete without a plain document.
    NoDeleteResult,
    /// The store requires signatures for this region. The gateway signs for another.
    WrongRegion(String),
    /// A redirect of an `s3` bucket: the client would bypass the gateway if it followed.
    Redirect(StatusCode),
    /// A timeout.
    Timeout(TimeoutKind),
    /// The request body exceeded the limit while it was streamed.
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The client closed the connection in mid-upload.
    ClientGone,
    /// The framing of the request body is malformed.
    BodyMalformed(String),
    /// The request body does not match its head.
    InvalidUpload(UploadFault),
    /// The upstream target is not a valid URI.
    InvalidTarget,
    /// The upload was cut because memory is exhausted.
    MemoryPressure,
    /// The copy source is malformed, or cannot be mapped to the upstream.
    CopySourceDenied,
    /// The circuit refused an attempt.
    Breaker(BreakerRejection),
    /// The bucket's gate had no permit for an attempt.
    Pool(PoolRejection),
}

impl From<BreakerRejection> for UpstreamRejection {
    fn from(rejection: BreakerRejection) -> Self {
        Self::Breaker(rejection)
    }
}

impl From<PoolRejection> for UpstreamRejection {
    fn from(rejection: PoolRejection) -> Self {
        Self::Pool(rejection)
    }
}

impl UpstreamRejection {
    /// Whether the attempt failed before a byte of the request was sent.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::TlsRejected(_)
                | Self::HostNotInCertificate(_)
                | Self::Timeout(TimeoutKind::Connect)
        )
    }
}
