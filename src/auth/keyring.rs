//! The client keys and API keys of a configuration, each with its policy.
//!
//! Client keys are found by their access key ID, API keys by the secret that the client presents. An API key's secret is not kept. The
//! look-up compares HMACs of the secrets under a random key that the process generates at its start, so the time of a look-up reveals
//! nothing about a secret (A4).
//!
//! A key keeps its ID when a reload changes its secret. So each key has a fingerprint of what clients prove their identity with, and
//! caches of signing keys find an entry by ID and fingerprint.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ring::hmac;
use tidegate_actors::{CredentialFingerprint, IdMap, Ids, KeyId};
use tidegate_config::{ApiKey, ClientKey, Config, Credentials, PolicyConfig, Priority, Secret, SignAs};
use tidegate_s3::sigv4::{SignatureRejection, check_session_token};

use crate::buffers::revocation::KeyringNumber;

/// The random key of all HMACs of secrets in this process.
static HASH_KEY: LazyLock<hmac::Key> =
    LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()));

/// The number of the next keyring.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// All keys of clients.
pub(crate) struct Keyring {
    number: KeyringNumber,
    keys: IdMap<KeyId, KeyEntry>,
    by_access_key_id: HashMap<String, KeyId>,
    by_hash: HashMap<[u8; 32], KeyId>,
    /// The keys that sign upstream requests as themselves. Each bucket's client on each thread asks for them, and there may be thousands
    /// of other keys.
    signers: Vec<KeyId>,
    /// The policy of an ID that is none of this keyring's. It allows nothing.
    no_policy: PolicyConfig,
}

/// One key.
struct KeyEntry {
    /// The client key; none for an API key.
    client_key: Option<ClientKey>,
    /// The name in logs.
    name: String,
    policy: PolicyConfig,
    priority: Option<Priority>,
    fingerprint: CredentialFingerprint,
}

impl KeyEntry {
    fn of_client_key(key: &ClientKey, policy: PolicyConfig) -> Self {
        let token = key.session_token.as_ref().map(Secret::expose);
        Self {
            client_key: Some(key.clone()),
            name: key.access_key_id.clone(),
            policy,
            priority: key.priority,
            fingerprint: fingerprint(&[Some(&key.access_key_id), Some(key.secret.expose()), token]),
        }
    }

    fn of_api_key(name: &str, key: &ApiKey, policy: PolicyConfig) -> Self {
        Self {
            client_key: None,
            name: name.to_owned(),
            policy,
            priority: key.priority,
            fingerprint: fingerprint(&[Some(key.secret.expose())]),
        }
    }
}

impl Keyring {
    /// The keys of a configuration. The configuration has already checked that their policies exist.
    pub(crate) fn new(config: &Config, ids: &Ids) -> Self {
        let policy = |name: &String| config.policies.get(name).cloned().unwrap_or_default();
        let mut entries = Vec::new();
        let (mut by_access_key_id, mut by_hash) = (HashMap::new(), HashMap::new());
        for (key, id) in ids.client_keys().filter_map(|(name, id)| Some((config.keys.get(name)?, id))) {
            let spellings = [Some(&key.access_key_id), key.access_key_id_in_capitals.as_ref()];
            by_access_key_id.extend(spellings.into_iter().flatten().map(|spelling| (spelling.clone(), id)));
            entries.push((id, KeyEntry::of_client_key(key, policy(&key.policy))));
        }
        for (name, id) in ids.api_keys() {
            let Some(key) = config.api_keys.get(name) else { continue };
            by_hash.insert(keyed_hash(key.secret.expose().as_bytes()), id);
            entries.push((id, KeyEntry::of_api_key(name, key, policy(&key.policy))));
        }
        let keys: IdMap<KeyId, KeyEntry> = entries.into_iter().collect();
        let is_signer = |key: &KeyEntry| {
            key.client_key.as_ref().is_some_and(|client_key| client_key.upstream == SignAs::Same)
        };
        let signers = keys.iter().filter(|(_, key)| is_signer(key)).map(|(id, _)| id).collect();
        let number = KeyringNumber(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { number, keys, by_access_key_id, by_hash, signers, no_policy: PolicyConfig::default() }
    }

    /// The number that only this keyring has. That of a later one is greater.
    pub(crate) fn number(&self) -> KeyringNumber {
        self.number
    }

    /// Whether the configuration has a client key, so that signed requests can succeed.
    pub(crate) fn has_client_keys(&self) -> bool {
        !self.by_access_key_id.is_empty()
    }

    /// The client key with this access key ID.
    pub(super) fn find(&self, access_key_id: &str) -> Option<KeyId> {
        self.by_access_key_id.get(access_key_id).copied()
    }

    /// The client key with this access key ID, if its session token equals the request's.
    pub(super) fn find_with_token(
        &self,
        access_key_id: &str,
        token: Option<&str>,
    ) -> Result<KeyId, SignatureRejection> {
        let id = self.find(access_key_id).ok_or(SignatureRejection::UnknownKey)?;
        let key = self.client_key(id).ok_or(SignatureRejection::UnknownKey)?;
        check_session_token(key.session_token.as_ref().map(Secret::expose), token)?;
        Ok(id)
    }

    /// The API key with this secret.
    pub(crate) fn find_api_key(&self, secret: &[u8]) -> Option<KeyId> {
        self.by_hash.get(&keyed_hash(secret)).copied()
    }

    fn client_key(&self, id: KeyId) -> Option<&ClientKey> {
        self.keys.get(id)?.client_key.as_ref()
    }

    pub(crate) fn is_api_key(&self, id: KeyId) -> bool {
        self.keys.get(id).is_some_and(|key| key.client_key.is_none())
    }

    /// The name of a key in logs: its access key ID, or the API key's name.
    pub(crate) fn name(&self, id: KeyId) -> &str {
        self.keys.get(id).map_or("", |key| &key.name)
    }

    pub(crate) fn policy(&self, id: KeyId) -> &PolicyConfig {
        self.keys.get(id).map_or(&self.no_policy, |key| &key.policy)
    }

    /// The priority of the key's requests in a bucket's wait queue, if the key has its own.
    pub(crate) fn priority(&self, id: KeyId) -> Option<Priority> {
        self.keys.get(id)?.priority
    }

    /// The secret of a client key. Use it only to derive a signing key or to verify a SigV2 signature.
    pub(super) fn secret(&self, id: KeyId) -> Result<&str, SignatureRejection> {
        let key = self.client_key(id).ok_or(SignatureRejection::UnknownKey)?;
        Ok(key.secret.expose())
    }

    /// The secret of a client key with its fingerprint.
    pub(super) fn secret_and_fingerprint(
        &self,
        id: KeyId,
    ) -> Result<(&str, CredentialFingerprint), SignatureRejection> {
        let entry = self.keys.get(id).ok_or(SignatureRejection::UnknownKey)?;
        Ok((self.secret(id)?, entry.fingerprint))
    }

    /// Refuses a client key that has expired.
    pub(super) fn check_expiry(&self, id: KeyId, now: SystemTime) -> Result<(), SignatureRejection> {
        match self.client_key(id).ok_or(SignatureRejection::UnknownKey)?.expires {
            Some(end) if end <= now => Err(SignatureRejection::KeyExpired),
            _ => Ok(()),
        }
    }

    /// The credentials that sign upstream requests, of those keys that exist at the upstream too (`upstream = "same"`).
    pub(crate) fn upstream_credentials(&self) -> impl Iterator<Item = (KeyId, Credentials)> {
        let client_keys = self.signers.iter().filter_map(|id| Some((*id, self.client_key(*id)?)));
        client_keys.map(|(id, key)| {
            let (access_key_id, secret_access_key) = (key.access_key_id.clone(), key.secret.clone());
            (id, Credentials { access_key_id, secret_access_key, session_token: None })
        })
    }

    /// Whether the next configuration signs upstream requests for the same keys with the same credentials.
    pub(crate) fn has_same_signers(&self, next: &Self) -> bool {
        let signers = |keyring: &Self| -> Vec<(KeyId, CredentialFingerprint)> {
            keyring.signers.iter().map(|id| (*id, keyring.keys[*id].fingerprint)).collect()
        };
        signers(self) == signers(next)
    }

    /// The keys that the next configuration withdraws: those that it lacks, and those that clients prove in another way
    /// there. A client that has the former secret of a key may not go on with it.
    pub(crate) fn withdrawn(&self, next: &Self) -> Vec<KeyId> {
        let remains =
            |id, key: &KeyEntry| next.keys.get(id).is_some_and(|other| other.fingerprint == key.fingerprint);
        self.keys.iter().filter(|(id, key)| !remains(*id, key)).map(|(id, _)| id).collect()
    }
}

fn keyed_hash(secret: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hmac::sign(&HASH_KEY, secret).as_ref());
    bytes
}

/// The fingerprint of these texts. It depends on the limits between them, and on their number.
fn fingerprint(texts: &[Option<&str>]) -> CredentialFingerprint {
    let mut context = hmac::Context::with_key(&HASH_KEY);
    for text in texts {
        let (is_present, text) = (u8::from(text.is_some()), text.unwrap_or_default());
        context.update(&[is_present]);
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.sign().as_ref()[..16]);
    CredentialFingerprint(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidegate_config::Sources;

    use super::*;

    /// The sections of client keys (with an access key ID) and of API keys, each with a name and a secret.
    fn config(keys: &[(&str, &str, &str)], api_keys: &[(&str, &str)], policy: &str) -> Config {
        let mut text = format!(
            "[policies.{policy}]\nbuckets = [\"b\"]\nmethods = [\"read\"]\n[buckets.b]\nauth = [\"sigv4\", \"api_key\"]\n\
             s3.endpoints = [\"http://127.0.0.1:9\"]\n"
        );
        for (name, id, secret) in keys {
            text += &format!(
                "[keys.{name}]\naccess_key_id = \"{id}\"\nsecret = \"{secret}\"\npolicy = \"{policy}\"\n"
            );
        }
        for (name, secret) in api_keys {
            text += &format!("[api_keys.{name}]\nsecret = \"{secret}\"\npolicy = \"{policy}\"\n");
        }
        tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
    }

    const SECRETS: [&str; 3] = [
        "first-secret-of-40-characters-0123456789",
        "other-secret-of-40-characters-0123456789",
        "api-secret-of-40-characters-01234567890",
    ];

    /// The names of the keys that a change withdraws.
    fn withdrawn(old: &Config, new: &Config) -> Vec<String> {
        let ids = Ids::new(old);
        let (keyring, next) = (Keyring::new(old, &ids), Keyring::new(new, &ids.reloaded(new)));
        let names: BTreeMap<KeyId, &str> =
            ids.client_keys().chain(ids.api_keys()).map(|(name, id)| (id, name)).collect();
        keyring.withdrawn(&next).iter().map(|id| names[id].to_owned()).collect()
    }

    /// G3, A4: a key is withdrawn if it goes, or if clients prove it in another way; other keys are not, in any order of names
    #[test]
    fn keys_that_go_or_change_are_withdrawn() {
        let [first, other, api] = SECRETS;
        let old = config(&[("b", "IDB", first), ("c", "IDC", first)], &[("x", api), ("y", first)], "p");
        let with = |keys: &[(&str, &str, &str)], api_keys: &[(&str, &str)]| {
            withdrawn(&old, &config(keys, api_keys, "p"))
        };
        let (keys, api_keys) = ([("b", "IDB", first), ("c", "IDC", first)], [("x", api), ("y", first)]);
        assert_eq!(with(&keys, &api_keys), [""; 0]);
        let more = [("a", "IDA", first), ("b", "IDB", first), ("bb", "IDBB", first), ("c", "IDC", first)];
        assert_eq!(with(&more, &[("w", other), ("x", api), ("y", first)]), [""; 0]);
        assert_eq!(with(&keys[1..], &api_keys[1..]), ["b", "x"], "they are gone");
        assert_eq!(with(&[("b", "IDB", other), keys[1]], &api_keys), ["b"], "another secret");
        assert_eq!(with(&[("b", "IDN", first), keys[1]], &api_keys), ["b"], "another access key ID");
        assert_eq!(with(&keys, &[("x", other), api_keys[1]]), ["x"], "another API key");
        let kind = with(&keys[..1], &[("c", other), ("x", api), ("y", first)]);
        assert_eq!(kind, ["c"], "the name is that of an API key now");
        assert_eq!(withdrawn(&old, &config(&keys, &api_keys, "another")), [""; 0], "only the policy changed");
    }

    /// G3: with added, removed and reordered names each ID finds its own key, and a foreign ID nothing
    #[test]
    fn ids_find_their_own_keys() {
        let [first, other, api] = SECRETS;
        let old = config(&[("m", "IDM", first), ("z", "IDZ", other)], &[("k", api)], "p");
        let new = config(&[("a", "IDA", other), ("z", "IDZ", other)], &[("k", api)], "q");
        let ids = Ids::new(&old);
        let (keyring, next) = (Keyring::new(&old, &ids), Keyring::new(&new, &ids.reloaded(&new)));
        let (gone, kept) = (keyring.find("IDM").unwrap(), keyring.find("IDZ").unwrap());
        assert_eq!((next.find("IDM"), next.find("IDZ")), (None, Some(kept)));
        assert_eq!((next.name(kept), next.secret(kept).unwrap()), ("IDZ", other));
        let api_key = next.find_api_key(api.as_bytes()).unwrap();
        assert_eq!(keyring.find_api_key(api.as_bytes()), Some(api_key));
        assert!(next.is_api_key(api_key) && !next.is_api_key(kept) && !next.is_api_key(gone));
        assert_eq!(next.name(api_key), "k");
        assert_eq!((next.name(gone), next.policy(gone)), ("", &PolicyConfig::default()));
        assert!(next.secret(gone).is_err() && next.secret(api_key).is_err());
        assert_ne!(next.policy(kept), &PolicyConfig::default());
    }

    /// G3: signers change with the credentials and with the choice of keys that sign, and with nothing else
    #[test]
    fn signers_are_compared() {
        let [first, other, _] = SECRETS;
        let of = |keys: &[(&str, &str, &str)], same: &[&str]| {
            let mut config = config(keys, &[], "p");
            same.iter().for_each(|name| config.keys.get_mut(*name).unwrap().upstream = SignAs::Same);
            config
        };
        let old = of(&[("b", "IDB", first), ("c", "IDC", first)], &["b"]);
        let ids = Ids::new(&old);
        let is_same =
            |new: &Config| Keyring::new(&old, &ids).has_same_signers(&Keyring::new(new, &ids.reloaded(new)));
        assert!(is_same(&old));
        assert!(is_same(&of(&[("a", "IDA", other), ("b", "IDB", first), ("c", "IDC", other)], &["b"])));
        assert!(!is_same(&of(&[("b", "IDB", other), ("c", "IDC", first)], &["b"])));
        assert!(!is_same(&of(&[("b", "IDB", first), ("c", "IDC", first)], &["b", "c"])));
        assert!(!is_same(&of(&[("b", "IDB", first), ("c", "IDC", first)], &[])));
    }

    /// A4: a fingerprint depends on each part and on the limits between them
    #[test]
    fn fingerprints_tell_parts_apart() {
        let all = [
            fingerprint(&[Some("ab"), Some("c"), None]),
            fingerprint(&[Some("a"), Some("bc"), None]),
            fingerprint(&[Some("ab"), Some("c"), Some("")]),
            fingerprint(&[Some("ab"), Some("c")]),
            fingerprint(&[Some("abc")]),
        ];
        let distinct: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], fingerprint(&[Some("ab"), Some("c"), None]));
    }
}
