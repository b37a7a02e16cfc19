//! The keys that client keys (`keys`) and API keys (`api_keys`) share: the secret, the policy, the rate limit, the priority.
//!
//! A key without a policy could do nothing, and a secret that is short could be guessed. Both are rejected at the start (A4, A5).

use std::collections::BTreeMap;

use crate::bucket::Secret;
use crate::hint;
use crate::policy::PolicyConfig;
use crate::priority::{PRIORITIES, Priority};
use crate::rate_limit::{RateLimit, RateLimitKeys};
use crate::schema::{Section, unset};
use crate::secret_file::SecretFromFile;
use crate::section::section;
use crate::value_type::{SecretText, Word, quoted};

section! {
    /// The shared keys of one client key or API key.
    pub(crate) struct SharedKeys {
        /// secret of the key
        ///
        /// Clients sign with the secret of a client key. They send the secret of an API key as it is, in `x-api-key` or as
        /// `Authorization: Bearer`. At least 8 characters for a client key, 16 for an API key.
        secret: Option<Secret> = unset("secret", SecretText, "required");
        /// file that holds the secret, instead of `secret`
        secret_file: Option<Secret> = unset("secret_file", SecretFromFile, "required");
        /// name of the policy that grants access
        pub(crate) policy: Option<String> = unset("policy", Word("name of a policy"), "required");
        /// rate limit of this key, instead of `rate_limit.per_key`
        pub(crate) rate_limit: Option<RateLimit> = RateLimitKeys("rate_limit");
        /// priority class of its requests in a bucket's wait queue
        pub(crate) priority: Option<Priority> =
            unset("priority", PRIORITIES, "the bucket's class of the operation");
    }
}

impl SharedKeys {
    /// The secret, from whichever of its two keys is set.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref().or(self.secret_file.as_ref())
    }

    /// Rejects a secret that is missing, set twice or shorter than `secret_bytes_min`, and a policy that is missing or undefined.
    pub(crate) fn check(
        &self,
        section: &mut Section<'_>,
        secret_bytes_min: usize,
        policies: &BTreeMap<String, PolicyConfig>,
    ) {
        section.refuse_unless_one(["secret", "secret_file"], "a key needs a secret");
        if self.secret().is_some_and(|secret| secret.expose().len() < secret_bytes_min) {
            let key = if section.is_set("secret") { "secret" } else { "secret_file" };
            section.refuse_short_secret(key, secret_bytes_min);
        }
        check_policy(section, self.policy.as_deref(), policies);
    }
}

fn check_policy(section: &mut Section<'_>, policy: Option<&str>, policies: &BTreeMap<String, PolicyConfig>) {
    match policy {
        None if section.is_set("policy") => {}
        None => {
            let hint = "set the name of a policy, and define it in policies.NAME".to_owned();
            section.refuse("policy", "a key without a policy allows nothing", Some(hint));
        }
        Some(policy) if !policies.contains_key(policy) => {
            let near = hint::nearest(policy, policies.keys());
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("define policies.{policy}"),
            };
            section.refuse("policy", format!("policies.{} is not defined", quoted(policy)), Some(hint));
        }
        Some(_) => {}
    }
}
