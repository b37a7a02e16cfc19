//! Tokens of clients (JWT, RFC 7519), verified (A3).
//!
//! `places` finds a token in a request and takes it away, `token` takes it apart and holds its signature against `key`s, `claims`
//! holds what it says against the configuration: all of these are pure. `keys` is the keys that hold at this moment,
//! `renewal` fetches them anew. The code that verifies is ours and small, and the mathematics are ring's: the crate that most
//! programs use for tokens wants a provider of cryptography for the whole process, reads the clock by itself, and knows no moment
//! at which its claims are to be held against.
//!
//! Deliberately absent: encrypted tokens (JWE), other algorithms than the three that issuers use, a token's own revocation
//! (`jti`): what is withdrawn before its time is withdrawn with its key.

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
    /// A key of the configuration is none.
    #[error("public_key_file: `{path}` is no key that tokens are verified with: {why}")]
    PublicKey {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file of keys cannot be used.
    #[error("jwks_file: {0}")]
    File(String),
    /// The URL of keys cannot be spoken to over TLS.
    #[error(transparent)]
    Tls(TlsError),
}

/// Whose tokens are believed, and the keys that show it.
pub(crate) struct TokenVerifier {
    config: JwtConfig,
    pub(crate) locations: Arc<TokenLocations>,
    keys: SharedKeySet,
}

impl TokenVerifier {
    /// What the configuration says of tokens, and what renews the keys.
    ///
    /// # Errors
    /// A key of the configuration cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Option<(Self, Option<JwksFetcher>)>, TokenKeysError> {
        let Some(jwt) = &config.jwt else { return Ok(None) };
        let own = configured_keys(jwt)?;
        let keys = SharedKeySet::new(own, jwt.algorithms.clone(), jwt.jwks.is_some());
        let renewal = match &jwt.jwks {
            None => None,
            Some(source) => Some(JwksFetcher::new(source, config, keys.clone())?),
        };
        let locations = Arc::new(TokenLocations::from_config(jwt));
        Ok(Some((Self { config: jwt.clone(), locations, keys }, renewal)))
    }

    /// Who brings this token. A key that it names and nobody knows is looked for once.
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

    /// Whether what was verified once still holds: its time is not up, and its key still is one.
    pub(crate) fn is_still_valid(&self, bearer: &VerifiedToken, wall: SystemTime) -> bool {
        wall < bearer.expires && self.keys.current().iter().any(|key| key.fingerprint() == bearer.verified_by)
    }
}

/// The keys that stand in the configuration.
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
