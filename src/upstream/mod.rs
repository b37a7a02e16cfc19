//! The upstream call: attempts, timeouts, what an answer means, and its body on the way to the client.
//!
//! `call` reads as the policy: breaker's permit, attempt, verdict, and perhaps once more. What is taken for an attempt is
//! given back by `Drop` on every path.

mod appended_errors;
pub(crate) mod body;
mod body_plan;
mod body_writer;
mod bucket_region;
mod call;
mod call_context;
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
mod header_names;
pub(crate) mod health;
mod hedge;
mod internal_call;
pub(crate) mod late_calls;
mod misdirected;
mod outcome;
mod proxied_request;
mod proxy_body;
#[cfg(feature = "bench")]
pub(crate) mod raw;
pub(crate) mod reachability;
mod rename_plan;
mod request;
mod resolver;
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

use crate::s3::upload::UploadFault;
use crate::shortage::Shortage;
use crate::upstream::store_clock::ClockSkew;
use crate::upstream::tls_failure::TlsFailure;
use actix_web::http::StatusCode;

pub(crate) use appended_errors::DeniedErrors;
pub(crate) use body_plan::{BodyPlan, declared_body};
pub(crate) use bucket_region::RegionHeader;
pub(crate) use call::{UpstreamGrant, call};
pub(crate) use circuit_wait::{is_replayable, may_wait_for_circuit};
pub(crate) use collect::{CollectError, CollectLimits, collect};
pub(crate) use discard_body::discard_body;
pub(crate) use error_document::error_code;
pub(crate) use hedge::HedgeSuppression;
pub(crate) use proxied_request::{BucketListPage, FormUpload, PresignedQuery, ProxiedRequest};
pub(crate) use proxy_body::ProxyBody;
pub(crate) use rename_plan::{client_scheme, rename_plan};
pub(crate) use request::{UpstreamRequest, prepare, prepare_bucket_list};
pub(crate) use response_body::{ResponseForward, forward_response};
pub(crate) use response_head::shortage_of;
pub(crate) use retry::RetryAfterAnomaly;
pub(crate) use timeouts::TimeoutKind;

/// Why there is no answer to pass on.
#[derive(Debug, Clone)]
pub(crate) enum UpstreamRejection {
    /// The gateway had too little of something to connect with.
    Shortage(Shortage),
    /// No connection.
    Connect(String),
    /// The endpoint is not trusted, or speaks no TLS that the gateway does.
    TlsRejected(TlsFailure),
    /// The endpoint's certificate does not hold the name in `Host`, which TLS asked for.
    HostNotInCertificate(String),
    /// There are no credentials to sign with, for this reason.
    NoCredentials(&'static str),
    /// The store refuses the time of the gateway's signature.
    ClockSkew(ClockSkew),
    /// The connection broke before the answer's head was there.
    Reset(String),
    /// The answer's head is no HTTP.
    Decode(String),
    /// A success to a multi-delete that is no plain document.
    NoDeleteResult,
    /// The store wants signatures for this region, and the gateway signs for another.
    WrongRegion(String),
    /// A redirect, which an s3 bucket's client could only follow past the gateway.
    Redirect(StatusCode),
    /// A timeout.
    Timeout(TimeoutKind),
    /// The request's body grew over the limit as it streamed.
    BodyTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The client left in mid-upload.
    ClientGone,
    /// The request's body is badly framed.
    BodyMalformed(String),
    /// The request's body is not what its head says.
    InvalidUpload(UploadFault),
    /// The target upstream is no URI.
    InvalidTarget,
    /// The upload was cut because memory is exhausted.
    MemoryPressure,
}

impl UpstreamRejection {
    /// Whether it failed before a byte of the request was sent.
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
