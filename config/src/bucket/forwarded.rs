//! Headers with the client's address, protocol and host: whether a bucket forwards, replaces or removes them.

use super::Kind;
use crate::value_type::Choice;

/// Handling of `X-Forwarded-For` and similar headers towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeaders {
    /// remove them
    Drop,
    /// replace them by the gateway's own
    Set,
    /// forward them as the client sent them
    Pass,
}

/// The words in a configuration.
pub(crate) const FORWARDED_HEADERS: Choice<ForwardedHeaders> = Choice(&[
    ("drop", ForwardedHeaders::Drop),
    ("set", ForwardedHeaders::Set),
    ("pass", ForwardedHeaders::Pass),
]);

impl ForwardedHeaders {
    /// The default of a bucket. Some stores use `X-Forwarded-Host` as the signed host, so `s3` buckets send none.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::S3 => Self::Drop,
            Kind::Http => Self::Set,
        }
    }
}
