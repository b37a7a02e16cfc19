//! What a bucket does with headers that name the client's address, protocol and host.

use super::Kind;
use crate::form::Choice;

/// What becomes of `X-Forwarded-For` and its like on the way to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeaders {
    /// they end at the gateway
    Drop,
    /// they end at the gateway, which sends its own
    Set,
    /// they pass as the client sent them
    Pass,
}

/// The words of the key.
pub(crate) const FORWARDED_HEADERS: Choice<ForwardedHeaders> = Choice(&[
    ("drop", ForwardedHeaders::Drop),
    ("set", ForwardedHeaders::Set),
    ("pass", ForwardedHeaders::Pass),
]);

impl ForwardedHeaders {
    /// The default of a bucket. Some stores take `X-Forwarded-Host` for the host that is signed, so `s3` buckets send none.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::S3 => Self::Drop,
            Kind::Http => Self::Set,
        }
    }
}
