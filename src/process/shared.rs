//! The state of one configuration that all threads share.

use std::sync::Arc;

use tidegate_actors::{Actors, ConfigNumber, Ids};
use tidegate_config::{Config, EffectiveConfig};

use super::Process;
use super::retirement::Retirement;
use crate::auth::jwt::TokenVerifier;
use crate::auth::{Keyring, Regions};
use crate::decisions::names::Names;
use crate::router::Router;
use crate::telemetry::redact::Redaction;
use crate::upstream::credentials::RenewalTasks;
use crate::upstream::rules::refresh_health::RefreshHealth;

/// The verification of tokens.
pub(crate) struct Tokens {
    pub(crate) verifier: TokenVerifier,
    /// Whether the set of keys that verify tokens can be fetched; none without a set.
    pub(crate) key_health: Option<Arc<RefreshHealth>>,
    /// Fetches the set of keys.
    pub(crate) _renewal: RenewalTasks,
}

/// What is the same in a configuration and in the one that it replaces, so that the threads keep what was derived from it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unchanged {
    /// The keys that sign upstream requests as themselves.
    pub(crate) signers: bool,
    /// Secrets, regions and the lifetime of cached signing keys.
    pub(crate) signing_keys: bool,
    /// The verification of tokens, the policies in them, and the lifetime of cached tokens.
    pub(crate) tokens: bool,
}

impl Unchanged {
    /// Compares a configuration and its keys with the one that it replaces.
    pub(crate) fn between(current: &Shared, new: &Config, keyring: &Keyring) -> Self {
        let old = &current.config;
        let (has_same_keys, has_same_ttl) = (old.keys == new.keys, old.sessions == new.sessions);
        Self {
            signers: current.keyring.has_same_signers(keyring),
            signing_keys: has_same_keys && has_same_ttl && old.s3 == new.s3,
            tokens: has_same_ttl && old.jwt == new.jwt && old.policies == new.policies,
        }
    }
}

/// The state of one configuration. The large parts are shared with the gateway, which drops them after the retirement: the drop of
/// thousands of buckets and keys would stop a worker thread.
pub(crate) struct Shared {
    pub(crate) process: Arc<Process>,
    pub(crate) config: Arc<Config>,
    /// The IDs of its buckets and keys.
    pub(crate) ids: Ids,
    /// Every key with its value and its origin, for the admin listener.
    pub(crate) effective: Arc<EffectiveConfig>,
    pub(crate) router: Arc<Router>,
    pub(crate) keyring: Arc<Keyring>,
    /// The regions of clients' signatures and of the gateway's.
    pub(crate) regions: Regions,
    /// None if no tokens are configured.
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) actors: Actors,
    /// Its names in recorded decisions.
    pub(crate) names: Arc<Names>,
    /// The values that the log redacts.
    pub(crate) redaction: Redaction,
    /// Compared with the configuration that it replaces.
    pub(crate) unchanged: Unchanged,
    pub(crate) retirement: Retirement,
}

impl Shared {
    pub(crate) fn number(&self) -> ConfigNumber {
        self.retirement.number()
    }
}
