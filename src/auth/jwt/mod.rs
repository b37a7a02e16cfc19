//! Verifies the tokens of clients (JWT, RFC 7519; A3).
//!
//! `token_locations` finds a token in a request and removes it, `token` parses it and verifies its signature with `key`s, `claims`
//! validates the claims against the configuration. These modules are pure. `shared_keys` has the current keys; `gateway/jwks_fetcher.rs`
//! refreshes them.
//!
//! The verification is our own small code on top of ring; `docs/design/dependencies.md` has the reasons against the common crate.
//!
//! Not supported: encrypted tokens (JWE), algorithms other than the three that issuers use, and revocation of one token (`jti`). To revoke
//! a token before its expiry, remove its key.

mod claims;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod jwks;
mod key;
mod rejection;
mod shared_keys;
#[cfg(test)]
mod strict_tests;
#[cfg(test)]
mod tests;
mod token;
mod token_locations;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use thiserror::Error;
use tidegate_actors::VerifiedToken;
use tidegate_config::JwtConfig;

use key::VerificationKey;
use token::Token;

pub(crate) use jwks::parse as parse_jwks;
pub(crate) use key::KeySet;
pub(crate) use rejection::JwtRejection;
pub(crate) use shared_keys::SharedKeySet;
pub(crate) use token_locations::{TokenLocations, bearer_token};

/// Why the configuration's own keys cannot verify tokens.
#[derive(Debug, Error)]
pub enum TokenKeysError {
    /// The configured public key cannot verify tokens.
    #[error("public_key_file: `{path}` is not a key that verifies tokens: {why}")]
    PublicKey {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The number of the next verifier.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Verifies tokens with the configuration's rules and the current keys. A clone has the same rules, keys and number.
#[derive(Clone)]
pub(crate) struct TokenVerifier {
    /// Never used twice in a process.
    number: u64,
    config: JwtConfig,
    pub(crate) locations: Arc<TokenLocations>,
    keys: SharedKeySet,
}

impl TokenVerifier {
    /// The verifier of the configuration. It has the configured keys; a JWK set is still to be fetched.
    ///
    /// # Errors
    /// A key of the configuration cannot be used.
    pub(crate) fn new(jwt: &JwtConfig) -> Result<Self, TokenKeysError> {
        let configured = configured_keys(jwt)?;
        let keys = SharedKeySet::new(configured, jwt.algorithms.clone(), jwt.jwks.is_some());
        let locations = Arc::new(TokenLocations::from_config(jwt));
        Ok(Self { number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed), config: jwt.clone(), locations, keys })
    }

    /// The number that only this verifier and its clones have.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The keys, for the task that refreshes them.
    pub(crate) fn keys(&self) -> SharedKeySet {
        self.keys.clone()
    }

    /// Verifies a token. If it names an unknown key, waits for one refresh of the keys and tries again.
    pub(crate) async fn verify(
        &self,
        token: &str,
        wall: SystemTime,
        now: Instant,
    ) -> Result<VerifiedToken, JwtRejection> {
        let token = Token::parse(token)?;
        let keys = self.keys.current();
        let mut verified = token.verify(&keys);
        let may_be_new = token.names_unknown_key(&keys);
        if verified.is_err()
            && token.uses_public_key()
            && self.keys.wait_for_refresh(&keys, may_be_new, now).await
        {
            verified = token.verify(&self.keys.current());
        }
        let (claims, verified_by) = verified.map_err(|rejection| match rejection {
            _ if token.uses_public_key() && self.keys.is_unavailable() => JwtRejection::NoKeys,
            rejection => rejection,
        })?;
        claims::validate(&claims, verified_by, &self.config, wall)
    }

    /// Whether a cached token is still valid: it has not expired, and the key that verified it is still a current key.
    pub(crate) fn is_still_valid(&self, token: &VerifiedToken, wall: SystemTime) -> bool {
        wall < token.expires && self.keys.current().iter().any(|key| key.fingerprint() == token.verified_by)
    }
}

/// The secret and the public key of the configuration.
fn configured_keys(jwt: &JwtConfig) -> Result<KeySet, TokenKeysError> {
    let mut keys: KeySet =
        jwt.secret.iter().map(|secret| VerificationKey::from_secret(secret.expose().as_bytes())).collect();
    if let Some(pem) = &jwt.public_key {
        let key = VerificationKey::from_pem(&pem.text)
            .map_err(|why| TokenKeysError::PublicKey { path: pem.path.clone(), why })?;
        if !jwt.algorithms.contains(&key.algorithm()) {
            let why = "its algorithm is not among jwt.algorithms";
            return Err(TokenKeysError::PublicKey { path: pem.path.clone(), why });
        }
        keys.push(key);
    }
    Ok(keys)
}
