//! The client keys and API keys of the configuration, each with its policy.
//!
//! Client keys are found by their access key ID, API keys by the secret that the client presents. An API key's secret is not kept. The
//! look-up compares HMACs of the secrets under a random key that the process generates at its start, so the time of a look-up reveals
//! nothing about a secret (A4).

use std::collections::HashMap;
use std::time::SystemTime;

use ring::hmac;
use tidegate_actors::KeyId;
use tidegate_config::{ApiKey, ClientKey, Config, Credentials, PolicyConfig, Priority, Secret, SignAs};
use tidegate_s3::sigv4::{SignatureRejection, check_session_token};

/// All keys of clients. IDs number the client keys first and the API keys after them.
pub(crate) struct Keyring {
    keys: Vec<(ClientKey, PolicyConfig)>,
    by_id: HashMap<String, KeyId>,
    api_keys: Vec<(String, PolicyConfig, Option<Priority>)>,
    by_hash: HashMap<[u8; 32], KeyId>,
    hash_key: hmac::Key,
}

impl Keyring {
    /// The keys of a configuration. The configuration has already checked that their policies exist.
    pub(crate) fn new(config: &Config) -> Self {
        let policy = |name: &String| config.policies.get(name).cloned().unwrap_or_default();
        let keys: Vec<_> = config.keys.values().map(|key| (key.clone(), policy(&key.policy))).collect();
        let spellings = |key: &ClientKey| {
            [Some(key.access_key_id.clone()), key.access_key_id_in_capitals.clone()].into_iter().flatten()
        };
        let ids = keys.iter().zip(0..);
        let ids = ids.flat_map(|((key, _), at)| spellings(key).map(move |id| (id, KeyId::new(at))));
        let by_id: HashMap<_, _> = ids.collect();
        let hash_key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let after = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let hashed = |(key, at): (&ApiKey, u32)| {
            (keyed_hash(&hash_key, key.secret.expose().as_bytes()), KeyId::new(after.saturating_add(at)))
        };
        let by_hash = config.api_keys.values().zip(0..).map(hashed).collect();
        let api_key = |(name, key): (&String, &ApiKey)| (name.clone(), policy(&key.policy), key.priority);
        let api_keys = config.api_keys.iter().map(api_key).collect();
        Self { keys, by_id, api_keys, by_hash, hash_key }
    }

    /// Whether the configuration has a client key, so that signed requests can succeed.
    pub(crate) fn has_client_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The client key with this access key ID.
    pub(super) fn find(&self, access_key_id: &str) -> Option<KeyId> {
        self.by_id.get(access_key_id).copied()
    }

    /// The client key with this access key ID, if its session token equals the request's.
    pub(super) fn find_with_token(
        &self,
        access_key_id: &str,
        token: Option<&str>,
    ) -> Result<KeyId, SignatureRejection> {
        let id = self.find(access_key_id).ok_or(SignatureRejection::UnknownKey)?;
        check_session_token(self.keys[id.index()].0.session_token.as_ref().map(Secret::expose), token)?;
        Ok(id)
    }

    /// The API key with this secret.
    pub(crate) fn find_api_key(&self, secret: &[u8]) -> Option<KeyId> {
        self.by_hash.get(&keyed_hash(&self.hash_key, secret)).copied()
    }

    pub(crate) fn is_api_key(&self, id: KeyId) -> bool {
        id.index() >= self.keys.len()
    }

    /// The name of a key in logs: its access key ID, or the API key's name.
    pub(crate) fn name(&self, id: KeyId) -> &str {
        match id.index().checked_sub(self.keys.len()) {
            None => &self.keys[id.index()].0.access_key_id,
            Some(at) => &self.api_keys[at].0,
        }
    }

    pub(crate) fn policy(&self, id: KeyId) -> &PolicyConfig {
        match id.index().checked_sub(self.keys.len()) {
            None => &self.keys[id.index()].1,
            Some(at) => &self.api_keys[at].1,
        }
    }

    /// The priority of the key's requests in a bucket's wait queue, if the key has its own.
    pub(crate) fn priority(&self, id: KeyId) -> Option<Priority> {
        match id.index().checked_sub(self.keys.len()) {
            None => self.keys[id.index()].0.priority,
            Some(at) => self.api_keys[at].2,
        }
    }

    /// The secret of a client key. Use it only to derive a signing key or to verify a SigV2 signature.
    pub(crate) fn secret(&self, id: KeyId) -> &str {
        self.keys[id.index()].0.secret.expose()
    }

    /// Refuses a client key that has expired.
    pub(super) fn check_expiry(&self, id: KeyId, now: SystemTime) -> Result<(), SignatureRejection> {
        match self.keys[id.index()].0.expires {
            Some(end) if end <= now => Err(SignatureRejection::KeyExpired),
            _ => Ok(()),
        }
    }

    /// The credentials that sign upstream requests, of those keys that exist at the upstream too (`upstream = "same"`).
    pub(crate) fn upstream_credentials(&self) -> impl Iterator<Item = (KeyId, Credentials)> {
        let same = self.keys.iter().zip(0..).filter(|((key, _), _)| key.upstream == SignAs::Same);
        same.map(|((key, _), at)| {
            let (access_key_id, secret_access_key) = (key.access_key_id.clone(), key.secret.clone());
            (KeyId::new(at), Credentials { access_key_id, secret_access_key, session_token: None })
        })
    }
}

fn keyed_hash(hash_key: &hmac::Key, secret: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hmac::sign(hash_key, secret).as_ref());
    bytes
}
