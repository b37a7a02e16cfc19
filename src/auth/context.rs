//! What authentication reads of the gateway: its shared state, and the caches of the thread.

use std::time::Duration;

use tidegate_actors::SessionsHandle;
use tidegate_config::BucketConfig;

use super::jwt::TokenVerifier;
use super::presented_auth::AcceptedAuth;
use super::{Keyring, Regions, SigningKeyCache, TokenCache};
use crate::telemetry::redact::Redaction;

/// The state that authenticates requests on one worker thread.
#[derive(Clone, Copy)]
pub(crate) struct AuthContext<'a> {
    pub(crate) keyring: &'a Keyring,
    pub(crate) regions: &'a Regions,
    /// None if tokens are not configured.
    pub(crate) tokens: Option<&'a TokenVerifier>,
    pub(crate) sessions: &'a SessionsHandle,
    /// How long the caches of this thread keep an entry.
    pub(crate) cache_ttl: Duration,
    /// `server.base_domains`.
    pub(crate) base_domains: &'a [String],
    /// The names of the headers that no reply shows.
    pub(crate) redaction: &'a Redaction,
    pub(crate) signing_keys: &'a SigningKeyCache,
    pub(crate) token_cache: &'a TokenCache,
}

/// The parts of a bucket that authentication and authorization read.
#[derive(Clone, Copy)]
pub(crate) struct BucketAuth<'a> {
    pub(crate) config: &'a BucketConfig,
    pub(crate) accepted_auth: &'a AcceptedAuth,
}

/// The bucket of a request, as authorization reads it.
#[derive(Clone, Copy)]
pub(crate) struct NamedBucket<'a> {
    pub(crate) auth: BucketAuth<'a>,
    /// The client's name of the bucket.
    pub(crate) name: &'a str,
    /// Whether a client's name of a bucket routes to the same section.
    pub(crate) routes_here: &'a dyn Fn(&str) -> bool,
}
