//! The state of one configuration that all threads share.

use std::sync::Arc;

use tidegate_actors::{Actors, Ids};
use tidegate_config::{Config, EffectiveConfig};

use super::Process;
use super::configurations::{ConfigNumber, Retirement};
use crate::auth::jwt::TokenVerifier;
use crate::auth::{Keyring, Regions};
use crate::router::Router;
use crate::telemetry::redact::Redaction;
use crate::upstream::rules::refresh_health::RefreshHealth;

/// The state of one configuration.
pub(crate) struct Shared {
    pub(crate) process: Arc<Process>,
    pub(crate) config: Config,
    /// The IDs of its buckets and keys.
    pub(crate) ids: Ids,
    /// Every key with its value and its origin, for the admin listener.
    pub(crate) effective: EffectiveConfig,
    pub(crate) router: Router,
    pub(crate) keyring: Keyring,
    /// The regions of clients' signatures and of the gateway's.
    pub(crate) regions: Regions,
    /// The verifier of tokens, if tokens are configured.
    pub(crate) tokens: Option<Arc<TokenVerifier>>,
    /// Whether the set of keys that verify tokens can be fetched; none without a set.
    pub(crate) token_key_health: Option<Arc<RefreshHealth>>,
    pub(crate) actors: Actors,
    /// The values that the log redacts.
    pub(crate) redaction: Redaction,
    pub(crate) retirement: Retirement,
}

impl Shared {
    pub(crate) fn number(&self) -> ConfigNumber {
        self.retirement.number()
    }
}
