//! Cache of verified tokens by their hash (C1): one cache per worker thread, and behind it the session cache.
//!
//! Hashing a token takes one or two microseconds, verifying an RSA or P-256 signature 20 to 100. Every hit is checked against the clock and
//! the current keys: a cached token is valid no longer than its expiry, nor than the key that verified it.

use std::sync::Arc;

use ring::digest;
use tidegate_actors::{TokenHash, VerifiedToken, clock};

use super::AuthContext;
use super::jwt::{JwtRejection, TokenVerifier};
use super::ttl_cache::TtlCache;

/// The cache of one worker thread.
#[derive(Default)]
pub(crate) struct TokenCache(TtlCache<TokenHash, Arc<VerifiedToken>>);

impl TokenCache {
    /// The verified token, from a cache or by verification.
    pub(super) async fn get_or_verify(
        &self,
        token: &str,
        verifier: &TokenVerifier,
        context: AuthContext<'_>,
    ) -> Result<Arc<VerifiedToken>, JwtRejection> {
        let (now, wall) = (clock::now(), clock::wall());
        let hash = hash(token);
        if let Some(cached) = self.0.get(&hash, now) {
            if verifier.is_still_valid(&cached, wall) {
                return Ok(cached);
            }
            self.0.remove(&hash);
        }
        let sessions = context.sessions;
        let verified = match sessions
            .verified_token(hash)
            .await
            .filter(|cached| verifier.is_still_valid(cached, wall))
        {
            Some(cached) => cached,
            None => {
                let verified = Arc::new(verifier.verify(token, wall, now).await?);
                sessions.insert_verified_token(hash, Arc::clone(&verified)).await;
                verified
            }
        };
        self.0.insert(hash, Arc::clone(&verified), now, context.cache_ttl);
        Ok(verified)
    }
}

fn hash(token: &str) -> TokenHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    TokenHash(bytes)
}
