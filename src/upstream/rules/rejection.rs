//! Why a call has no response to forward.

use std::time::Duration;

use actix_web::http::StatusCode;
use tidegate_actors::{BreakerRejection, PoolRejection};
use tidegate_s3::upload::UploadFault;

use crate::buffers::body_memory::BodyMemoryFull;
use crate::buffers::cut::{CrowdingCut, TransferCut};
use crate::shortage::Shortage;
use crate::upstream::connect::dns_cache::NoAddress;
use crate::upstream::connect::tls_failure::TlsFailure;
use crate::upstream::rules::store_clock::ClockSkew;

/// The timeout that expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeoutKind {
    /// No connection in time.
    Connect,
    /// No byte of the body moved for too long.
    Upload,
    /// The client's body arrives too slowly.
    BodyRate,
    /// The client holds too many permits with requests that wait for it.
    Crowding,
    /// No first byte of the response in time.
    FirstByte,
    /// The total timeout of the request.
    Total,
    /// The timeout of operations that the store may take minutes for.
    LongOperation,
    /// The client's own timeout.
    Deadline,
}

impl TimeoutKind {
    /// The value in reasons and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Connect => "timeout_connect",
            Self::Upload => "timeout_upload",
            Self::BodyRate => "timeout_body_rate",
            Self::Crowding => "slow_client",
            Self::FirstByte => "timeout_first_byte",
            Self::Total => "timeout_total",
            Self::LongOperation => "timeout_long_operation",
            Self::Deadline => "timeout_deadline",
        }
    }

    /// Whether the timeout is a failure of the upstream. A stalled upload may be the client's fault, and a client's
    /// deadline is its own.
    pub(crate) fn is_upstream_failure(self) -> bool {
        !matches!(self, Self::Upload | Self::BodyRate | Self::Crowding | Self::Deadline)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Upload => "the upload made no progress",
            Self::BodyRate => "the request body arrives too slowly",
            Self::Crowding => "the client holds too many permits with requests that wait for it",
            Self::FirstByte => "waiting for the first byte",
            Self::Total => "the total timeout of the request expired",
            Self::LongOperation => "the timeout of long operations expired",
            Self::Deadline => "the timeout that the client set expired",
        }
    }
}

/// A timeout that expired, with the values that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExpiredTimeout {
    pub(crate) kind: TimeoutKind,
    /// How long the phase took, or the attempt if the phase alone was not timed; none if neither was.
    pub(crate) took: Option<Duration>,
    /// The limit that this reached; none if it has no fixed length, or if it is the same for all requests of the bucket.
    pub(crate) limit: Option<Duration>,
    /// The requests of a client that held too many permits.
    pub(crate) crowding: Option<CrowdingCut>,
}

impl ExpiredTimeout {
    pub(crate) fn of(kind: TimeoutKind, took: Option<Duration>) -> Self {
        Self { kind, took, limit: None, crowding: None }
    }
}

/// Why there is no response to forward.
#[derive(Debug, Clone)]
pub(crate) enum UpstreamRejection {
    /// The gateway lacked descriptors, ports or memory for the connection.
    Shortage(Shortage),
    /// The endpoint's name has no address.
    NoAddress(NoAddress),
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
    /// A reused connection was closed before a byte of the response, and the request could not be sent again.
    ReusedClosed(String),
    /// The response head is not valid HTTP.
    Decode(String),
    /// A success to a multi-delete without a plain document.
    NoDeleteResult,
    /// The store requires signatures for this region. The gateway signs for another.
    WrongRegion(String),
    /// A redirect of an `s3` bucket: the client would bypass the gateway if it followed.
    Redirect(StatusCode),
    /// A timeout.
    Timeout(ExpiredTimeout),
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
    /// The upload was cut.
    UploadCut(TransferCut),
    /// The memory is not enough for a body that must be read whole.
    BodyMemory(BodyMemoryFull),
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
            Self::NoAddress(_)
                | Self::Connect(_)
                | Self::TlsRejected(_)
                | Self::HostNotInCertificate(_)
                | Self::Timeout(ExpiredTimeout { kind: TimeoutKind::Connect, .. })
        )
    }
}
