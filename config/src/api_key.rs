//! API keys: secrets that clients send as they are, in a header, and what they may do (A4).
//!
//! For clients that cannot sign. Whoever sees such a request has the key, so it is for TLS or a trusted network. A key
//! is found by its secret alone, so two keys with one secret are refused: it would be a matter of chance whose policy holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::bucket::Secret;
use crate::client_key::{check_policy, check_secret};
use crate::form::{SecretText, Word};
use crate::policy::PolicyConfig;
use crate::priority::{PRIORITIES, Priority};
use crate::rate_limit::{RateLimit, RateLimitKeys};
use crate::secret_file::SecretIn;
use crate::section::section;
use crate::walk::{Read as _, Section, unset};

/// Whoever knows it needs nothing else, so it must not be guessed.
const SECRET_BYTES_MIN: usize = 16;

section! {
    /// An API key as it is written.
    struct Keys {
        /// what clients send, in `x-api-key` or as `Authorization: Bearer`
        secret: Option<Secret> = unset("secret", SecretText, "required");
        /// file that holds it, in place of `secret`
        secret_file: Option<Secret> = unset("secret_file", SecretIn, "required");
        /// name of the policy that says what it may do
        policy: Option<String> = unset("policy", Word("name of a policy"), "required");
        /// limit of its own, in place of `rate_limit.per_key`
        rate_limit: Option<RateLimit> = RateLimitKeys("rate_limit");
        /// class of its requests where they wait for a bucket's place: `high`, `normal` or `low`
        priority: Option<Priority> = unset("priority", PRIORITIES, "what the bucket says of the operation");
    }
}

/// A secret that a client sends.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// what is sent
    pub secret: Secret,
    /// the name of its policy
    pub policy: String,
    /// its own limit
    pub rate_limit: Option<RateLimit>,
    /// class of its requests in a bucket's queue; `None` leaves it to the bucket
    pub priority: Option<Priority>,
}

/// Reads the map of API keys. A key with a fault stays out of the map; the fault stops the start.
pub(crate) fn read(
    section: &mut Section<'_>,
    policies: &BTreeMap<String, PolicyConfig>,
) -> BTreeMap<String, ApiKey> {
    let mut keys: BTreeMap<String, ApiKey> = BTreeMap::new();
    let known: BTreeSet<&str> = policies.keys().map(String::as_str).collect();
    for name in section.names() {
        let mut child = section.child(&name);
        child.introduce(&[" an API key; clients send it as it is"]);
        let written = Keys::read(&mut child);
        let secret = written.secret.as_ref().or(written.secret_file.as_ref());
        check_secret(&mut child, secret, SECRET_BYTES_MIN);
        check_policy(&mut child, written.policy.as_deref(), &known);
        let priority = written.priority;
        let (Some(secret), Some(policy)) = (secret.cloned(), written.policy) else { continue };
        if let Some((twin, _)) = keys.iter().find(|(_, other)| other.secret == secret) {
            let message = format!("has the secret of {}", section.spell(twin));
            section.refuse(&name, message, Some("give one of them another".to_owned()));
        }
        let rate_limit = written.rate_limit;
        keys.insert(name, ApiKey { secret, policy, rate_limit, priority });
    }
    keys
}
