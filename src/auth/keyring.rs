//! The client keys as the request path needs them: by access key ID, each with its policy at hand.

use std::collections::HashMap;
use std::time::SystemTime;

use tidegate_actors::KeyId;
use tidegate_config::{ClientKey, Config, Credentials, PolicyConfig, Secret, SignAs};

/// All client keys.
pub(crate) struct Keyring {
    keys: Vec<(ClientKey, PolicyConfig)>,
    by_id: HashMap<String, KeyId>,
}

impl Keyring {
    /// The keys of a configuration, which has checked that their policies exist.
    pub(crate) fn new(config: &Config) -> Self {
        let with_policy = |key: &ClientKey| {
            let policy = config.policies.get(&key.policy).cloned().unwrap_or_default();
            (key.clone(), policy)
        };
        let keys: Vec<_> = config.keys.values().map(with_policy).collect();
        let ids = keys.iter().zip(0..).map(|((key, _), at)| (key.access_key_id.clone(), KeyId::new(at)));
        let by_id = ids.collect();
        Self { keys, by_id }
    }

    /// The key with this access key ID.
    pub(crate) fn find(&self, access_key_id: &str) -> Option<KeyId> {
        self.by_id.get(access_key_id).copied()
    }

    pub(crate) fn access_key_id(&self, id: KeyId) -> &str {
        &self.keys[id.index()].0.access_key_id
    }

    pub(crate) fn policy(&self, id: KeyId) -> &PolicyConfig {
        &self.keys[id.index()].1
    }

    /// The secret, for deriving a signing key and for nothing else.
    pub(crate) fn secret(&self, id: KeyId) -> &str {
        self.keys[id.index()].0.secret.expose()
    }

    /// The session token that its clients send besides.
    pub(crate) fn session_token(&self, id: KeyId) -> Option<&str> {
        self.keys[id.index()].0.session_token.as_ref().map(Secret::expose)
    }

    /// Whether the key is no longer taken.
    pub(crate) fn has_expired(&self, id: KeyId, now: SystemTime) -> bool {
        self.keys[id.index()].0.expires.is_some_and(|end| end <= now)
    }

    /// The pairs that requests are signed with towards upstreams, of those keys that are known there too.
    pub(crate) fn own_pairs(&self) -> impl Iterator<Item = (KeyId, Credentials)> {
        let own = self.keys.iter().zip(0..).filter(|((key, _), _)| key.upstream == SignAs::Same);
        own.map(|((key, _), at)| {
            let (access_key_id, secret_access_key) = (key.access_key_id.clone(), key.secret.clone());
            (KeyId::new(at), Credentials { access_key_id, secret_access_key, session_token: None })
        })
    }
}
