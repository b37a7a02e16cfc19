//! Tokens verified once and remembered by their hash (C1): on this thread first, in the session cache behind it.
//!
//! Hashing a token costs a microsecond or two, verifying an RSA or P-256 signature twenty to a hundred. What is remembered is
//! held against the clock and the keys of the moment each time: a token does not outlive its expiry or the key that it was
//! verified with, whatever a cache says.

use std::sync::Arc;

use ring::digest;
use tidegate_actors::{TokenHash, VerifiedToken, clock};

use super::jwt::{JwtRejection, TokenVerifier};
use super::ttl_cache::TtlCache;
use crate::worker::Worker;

/// What one worker thread knows.
#[derive(Default)]
pub(crate) struct TokenCache(TtlCache<TokenHash, Arc<VerifiedToken>>);

impl TokenCache {
    /// Who brings this token.
    pub(super) async fn get_or_verify(
        &self,
        token: &str,
        tokens: &TokenVerifier,
        worker: &Worker,
    ) -> Result<Arc<VerifiedToken>, JwtRejection> {
        let (now, wall) = (clock::now(), clock::wall());
        let hash = hash(token);
        if let Some(known) = self.0.get(&hash, now) {
            if tokens.is_still_valid(&known, wall) {
                return Ok(known);
            }
            self.0.remove(&hash);
        }
        let sessions = &worker.shared.actors.sessions;
        let bearer =
            match sessions.verified_token(hash).await.filter(|known| tokens.is_still_valid(known, wall)) {
                Some(known) => known,
                None => {
                    let verified = Arc::new(tokens.verify(token, wall, now).await?);
                    sessions.insert_verified_token(hash, Arc::clone(&verified)).await;
                    verified
                }
            };
        self.0.insert(hash, Arc::clone(&bearer), now, worker.shared.config.sessions.ttl);
        Ok(bearer)
    }
}

fn hash(token: &str) -> TokenHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    TokenHash(bytes)
}
