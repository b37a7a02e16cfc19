//! Rejections that only SigV2 has. `http/error/auth.rs` has their error replies.

use std::borrow::Cow;
use std::time::Duration;

/// The part of a request that has the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigV2Location {
    /// In the `Authorization` header.
    Header,
    /// In the query: a presigned URL.
    Query,
}

/// Why a SigV2 signature was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigV2Rejection {
    /// The bucket does not accept SigV2.
    Disabled,
    /// The signature is malformed.
    Malformed(SigV2Location, Cow<'static, str>),
    /// The body is `aws-chunked`; SigV2 has no signatures for chunks.
    ChunkedBody,
    /// The operation depends on this parameter or header, which the signature does not cover.
    Uncovered(String),
    /// A presigned URL has expired.
    Expired {
        /// The end of its validity.
        expires: String,
        /// The gateway's time.
        now: String,
    },
    /// The expiration of a presigned URL or a form is too far in the future.
    TooFarAhead {
        /// The longest time to the expiration.
        max: Duration,
    },
}

impl SigV2Rejection {
    /// Whether it counts as a failed authentication (L8).
    pub(crate) fn counts_toward_lockout(&self) -> bool {
        matches!(self, Self::Malformed(..))
    }
}
