//! Cache of verified tokens by their hash (C1): one cache per worker thread, and behind it the session cache.
//!
//! Hashing a token takes one or two microseconds, verifying an RSA or P-256 signature 20 to 100. Every hit is checked against the clock and
//! the current keys: a cached token is valid no longer than its expiry, nor than the key that verified it.
//!
//! A verified token has the policy that its claims got under the rules of its verifier. The caches outlive a reload, so the hash of a token
//! contains the number of its verifier: a token that was verified under other rules is not found.

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
        let hash = hash(token, verifier);
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

/// The hash of a token and the number of its verifier.
fn hash(token: &str, verifier: &TokenVerifier) -> TokenHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes.iter_mut().zip(verifier.number().to_le_bytes()).for_each(|(byte, of_number)| *byte ^= of_number);
    TokenHash(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tidegate_actors::KeyFingerprint;
    use tidegate_config::{JwtConfig, PolicyConfig, Sources};

    use super::*;

    fn jwt() -> JwtConfig {
        let jwt =
            "jwt = { secret = \"0123456789abcdef0123456789abcdef\", issuer = \"i\", audience = [\"a\"] }\n";
        let bucket = "[buckets.b]\nauth = [\"jwt\"]\ns3.endpoints = [\"http://127.0.0.1:9\"]\n";
        let text = [jwt, bucket].concat();
        tidegate_config::load(Sources::default().text("test.toml", text)).unwrap().jwt.unwrap()
    }

    /// G3, A3: a token that was verified under other rules is not found, even if they are the same again
    #[test]
    fn a_token_is_found_under_its_own_rules_only() {
        let (first, second) = (TokenVerifier::new(&jwt()).unwrap(), TokenVerifier::new(&jwt()).unwrap());
        assert_eq!(hash("a.b.c", &first), hash("a.b.c", &first.clone()));
        assert_ne!(hash("a.b.c", &first), hash("a.b.c", &second));
        assert_ne!(hash("a.b.c", &first), hash("a.b.d", &first));
        let (cache, now) = (TokenCache::default(), clock::now());
        let token = Arc::new(VerifiedToken {
            subject: None,
            policy: PolicyConfig::default(),
            expires: SystemTime::UNIX_EPOCH,
            verified_by: KeyFingerprint([0; 32]),
        });
        cache.0.insert(hash("a.b.c", &first), token, now, Duration::from_secs(1));
        assert!(cache.0.get(&hash("a.b.c", &first), now).is_some());
        assert!(cache.0.get(&hash("a.b.c", &second), now).is_none());
    }
}
