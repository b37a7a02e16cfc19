//! The upstream call: attempts, timeouts, what an answer means, and its body on the way to the client.
//!
//! `call` reads as the policy: breaker's permit, attempt, verdict, and perhaps once more. What is taken for an attempt is
//! given back by `Drop` on every path.

pub(crate) mod answer;
mod answer_source;
mod answer_transfer;
mod appended;
mod blame;
pub(crate) mod body;
mod bucket_region;
mod call;
pub(crate) mod client;
mod clock_reading;
mod collect;
mod conclude;
mod conditional_write;
mod connection;
mod connection_key;
pub(crate) mod credential_check;
pub(crate) mod credentials;
pub(crate) mod deadline;
pub(crate) mod destination;
pub(crate) mod dial;
mod early;
mod error_document;
pub(crate) mod flow;
mod forwarded;
mod head;
mod header_names;
pub(crate) mod headers;
pub(crate) mod health;
mod hedge;
mod hold;
mod identity;
mod incoming;
mod intake;
pub(crate) mod late;
mod misdirected;
mod names;
mod outbound;
mod own_call;
mod proxy_body;
mod pump;
#[cfg(feature = "bench")]
pub(crate) mod raw;
pub(crate) mod reachability;
mod renamed;
mod reply;
mod resolver;
mod retry;
pub(crate) mod store_clock;
mod stream;
pub(crate) mod tls;
pub(crate) mod tls_failure;
mod verdict;
mod watch;

use crate::s3::upload::UploadFault;
use crate::shortage::Shortage;
use crate::upstream::store_clock::Skew;
use crate::upstream::tls_failure::TlsFailure;
use actix_web::http::StatusCode;

pub(crate) use answer::{Passing, pass_on};
pub(crate) use appended::Errors;
pub(crate) use bucket_region::RegionHeader;
pub(crate) use call::{Leave, call};
pub(crate) use collect::{CollectError, CollectLimits, collect};
pub(crate) use conclude::conclude;
pub(crate) use error_document::error_code;
pub(crate) use hedge::Suppressed;
pub(crate) use hold::{is_patient, may_wait};
pub(crate) use incoming::{BucketListPage, Incoming, PresignedQuery, Put};
pub(crate) use intake::{Taking, declare};
pub(crate) use outbound::{Outbound, prepare, prepare_bucket_list};
pub(crate) use proxy_body::ProxyBody;
pub(crate) use renamed::{names_of, scheme};
pub(crate) use reply::shortage_of;
pub(crate) use retry::Oddity;
pub(crate) use watch::Phase;

/// Why there is no answer to pass on.
#[derive(Debug, Clone)]
pub(crate) enum UpstreamRejection {
    /// The gateway had too little of something to connect with.
    Shortage(Shortage),
    /// No connection.
    Connect(String),
    /// The endpoint is not trusted, or speaks no TLS that the gateway does.
    Distrust(TlsFailure),
    /// The endpoint's certificate does not hold the name in `Host`, which TLS asked for.
    HostNotInCertificate(String),
    /// There are no credentials to sign with, for this reason.
    Credentials(&'static str),
    /// The store refuses the time of the gateway's signature.
    ClockSkew(Skew),
    /// The connection broke before the answer's head was there.
    Reset(String),
    /// The answer's head is no HTTP.
    Decode(String),
    /// A success to a multi-delete that is no plain document.
    NoDeleteResult,
    /// The store wants signatures for this region, and the gateway signs for another.
    Region(String),
    /// A redirect, which an s3 bucket's client could only follow past the gateway.
    Redirect(StatusCode),
    /// A timeout.
    Timeout(Phase),
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
    Upload(UploadFault),
    /// The target upstream is no URI.
    Target,
    /// The upload was cut because memory is exhausted.
    MemoryPressure,
}

impl UpstreamRejection {
    /// Whether it failed before a byte of the request was sent.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::Distrust(_)
                | Self::HostNotInCertificate(_)
                | Self::Timeout(Phase::Connect)
        )
    }
}
