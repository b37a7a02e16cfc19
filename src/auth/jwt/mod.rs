//! Verifies the tokens of clients (JWT, RFC 7519; A3).
//!
//! `token_locations` finds a token in a request and removes it, `token` parses it and verifies its signature with `key`s, `claims`
//! validates the claims against the configuration. These modules are pure. `shared_keys` has the current keys, `jwks_fetcher` refreshes
//! them.
//!
//! The verification is our own small code on top of ring; `docs/design/dependencies.md` has the reasons against the common crate.
//!
//! Not supported: encrypted tokens (JWE), algorithms other than the three that issuers use, and revocation of one token (`jti`). To revoke
//! a token before its expiry, remove its key.

mod claims;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod jwks;
mod jwks_fetcher;
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
use std::time::{Instant, SystemTime};

use thiserror::Error;
use tidegate_actors::VerifiedToken;
use tidegate_config::{Config, JwtConfig};

use crate::upstream::tls::TlsError;
use key::{KeySet, VerificationKey};
use shared_keys::SharedKeySet;
use token::Token;

pub(crate) use jwks_fetcher::JwksFetcher;
pub(crate) use rejection::JwtRejection;
pub(crate) use token_locations::{TokenLocations, bearer_token};

/// Why the gateway cannot verify tokens.
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
    /// The JWK set file cannot be used.
    #[error("jwks_file: {0}")]
    File(String),
    /// TLS for the URL of the JWK set cannot be set up.
    #[error(transparent)]
    Tls(TlsError),
}

/// Verifies tokens with the configuration's rules and the current keys.
pub(crate) struct TokenVerifier {
    config: JwtConfig,
    pub(crate) locations: Arc<TokenLocations>,
    keys: SharedKeySet,
}

impl TokenVerifier {
    /// The verifier of the configuration, and the task that refreshes its keys; none if the configuration has no `[jwt]`.
    ///
    /// # Errors
    /// A key or the JWK set file of the configuration cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Option<(Self, Option<JwksFetcher>)>, TokenKeysError> {
        let Some(jwt) = &config.jwt else { return Ok(None) };
        let configured = configured_keys(jwt)?;
        let keys = SharedKeySet::new(configured, jwt.algorithms.clone(), jwt.jwks.is_some());
        let fetcher = match &jwt.jwks {
            None => None,
            Some(source) => Some(JwksFetcher::new(source, config, keys.clone())?),
        };
        let locations = Arc::new(TokenLocations::from_config(jwt));
        Ok(Some((Self { config: jwt.clone(), locations, keys }, fetcher)))
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
