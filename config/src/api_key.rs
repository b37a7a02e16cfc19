//! API keys: secrets that clients send as they are, in a header (A4).
//!
//! They are for clients that cannot sign. An observer of one request has the key, so API keys need TLS or a trusted network. The
//! gateway looks a key up by its secret alone. Two keys with one secret are therefore rejected: which policy applies would be
//! undefined.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use crate::bucket::Secret;
use crate::client_secret::SharedKeys;
use crate::policy::PolicyConfig;
use crate::priority::Priority;
use crate::rate_limit::RateLimit;
use crate::schema::{Read as _, Section};

/// The secret is the only proof, so it must resist guessing.
const SECRET_BYTES_MIN: usize = 16;

/// A secret that a client sends.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// the secret
    pub secret: Secret,
    /// the name of its policy
    pub policy: String,
    /// its own rate limit
    pub rate_limit: Option<RateLimit>,
    /// priority class of its requests in a bucket's wait queue; `None` uses the bucket's class
    pub priority: Option<Priority>,
}

/// Reads the map of API keys. An invalid key is left out of the map; its problem stops the start.
pub(crate) fn read(
    section: &mut Section<'_>,
    policies: &BTreeMap<String, PolicyConfig>,
) -> BTreeMap<String, ApiKey> {
    let mut keys: BTreeMap<String, ApiKey> = BTreeMap::new();
    // the names of keys by a hash of their secrets, because there may be thousands
    let mut names: HashMap<u64, Vec<String>> = HashMap::new();
    let hasher = RandomState::new();
    for name in section.names() {
        let mut child = section.child(&name);
        child.document(&[" an API key; clients send its secret in a header"]);
        let shared = SharedKeys::read(&mut child);
        shared.check(&mut child, SECRET_BYTES_MIN, policies);
        let secret = shared.secret().cloned();
        let SharedKeys { policy, rate_limit, priority, .. } = shared;
        let (Some(secret), Some(policy)) = (secret, policy) else { continue };
        let same_hash = names.entry(hasher.hash_one(secret.expose())).or_default();
        if let Some(duplicate) = same_hash.iter().find(|other| keys[*other].secret == secret) {
            let message = format!("has the same secret as {}", section.full_key(duplicate));
            section.refuse(&name, message, Some("give each key its own secret".to_owned()));
        }
        same_hash.push(name.clone());
        keys.insert(name, ApiKey { secret, policy, rate_limit, priority });
    }
    keys
}
