//! Cache of clients' SigV4 signing keys (C1): one cache per worker thread, and behind it the session cache.
//!
//! A signing key is derived from a secret, a day and a region with four HMACs of about a microsecond each. A message to the session
//! cache's actor costs more. So the look-up goes to the thread's own cache first, then to the session cache, which bounds the number and
//! age of its entries; the key is derived only if both miss. The client key must be in the configuration, and the day within the week of a
//! presigned URL.
//!
//! A client may sign for any region, and a forged signature may name a new region each time. So a key for a region that the configuration
//! does not name is derived without a message to the session cache. It is cached on this thread only after a signature was verified with
//! it, at most `UNLISTED_MAX` for each client key. Forged signatures add no entry and evict none.
//!
//! The caches outlive a reload. An entry is found by the fingerprint of its secret, so no request finds an entry of a secret that its
//! configuration lacks.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tidegate_actors::{KeyId, SigningKey, SigningKeyId, clock};
use tidegate_s3::sigv4::SignatureRejection;
use tidegate_s3::sigv4::canonical::signing_key;

use super::AuthContext;
use super::ttl_cache::TtlCache;

/// Signing keys for regions that are not configured: at most this many for each client key on one thread.
const UNLISTED_MAX: usize = 8;

/// The cache of one worker thread.
#[derive(Default)]
pub(crate) struct SigningKeyCache {
    configured: TtlCache<SigningKeyId, SigningKey>,
    unlisted: UnlistedRegionKeys,
}

/// A signing key to verify a signature with.
pub(super) struct DerivedKey {
    key: SigningKey,
    /// The ID under which the key is cached after a signature was verified with it; none if it is cached already.
    uncached: Option<SigningKeyId>,
}

impl DerivedKey {
    pub(super) fn bytes(&self) -> &[u8; 32] {
        self.key.bytes()
    }
}

impl SigningKeyCache {
    /// The signing key of a client key, from a cache or derived.
    pub(super) async fn get_or_derive(
        &self,
        key: KeyId,
        date: &str,
        region: &str,
        context: AuthContext<'_>,
    ) -> Result<DerivedKey, SignatureRejection> {
        let (secret, fingerprint) = context.keyring.secret_and_fingerprint(key)?;
        let id = SigningKeyId::new(key, fingerprint, date, region);
        let now = clock::now();
        if let Some(known) = self.configured.get(&id, now) {
            return Ok(DerivedKey { key: known, uncached: None });
        }
        let derive = || SigningKey::new(signing_key(secret, date, region));
        if !context.regions.is_configured(region) {
            return Ok(match self.unlisted.get(key, &id, now) {
                Some(known) => DerivedKey { key: known, uncached: None },
                None => DerivedKey { key: derive(), uncached: Some(id) },
            });
        }
        let sessions = context.sessions;
        let found = match sessions.signing_key(&id).await {
            Some(found) => found,
            None => {
                let derived = derive();
                sessions.insert_signing_key(&id, derived.clone()).await;
                derived
            }
        };
        self.configured.insert(id, found.clone(), now, context.cache_ttl);
        Ok(DerivedKey { key: found, uncached: None })
    }

    /// Caches a key for an unlisted region after a signature was verified with it.
    pub(super) fn insert_verified(&self, key: KeyId, found: DerivedKey, context: AuthContext<'_>) {
        if let Some(id) = found.uncached {
            let ttl = context.cache_ttl;
            self.unlisted.insert(key, id, found.key, clock::now(), ttl);
        }
    }
}

/// Signing keys for regions that are not configured, by client key, the oldest first.
#[derive(Default)]
struct UnlistedRegionKeys(RefCell<HashMap<KeyId, VecDeque<CachedKey>>>);

/// A signing key and the time until which it is used.
struct CachedKey {
    id: SigningKeyId,
    key: SigningKey,
    expires: Instant,
}

impl UnlistedRegionKeys {
    fn get(&self, of: KeyId, id: &SigningKeyId, now: Instant) -> Option<SigningKey> {
        let entries = self.0.borrow();
        let fits = |entry: &&CachedKey| entry.id == *id && now < entry.expires;
        entries.get(&of)?.iter().find(fits).map(|entry| entry.key.clone())
    }

    fn insert(&self, of: KeyId, id: SigningKeyId, key: SigningKey, now: Instant, ttl: Duration) {
        let mut entries = self.0.borrow_mut();
        let entries = entries.entry(of).or_default();
        entries.retain(|entry| entry.id != id && now < entry.expires);
        if entries.len() >= UNLISTED_MAX {
            entries.pop_front();
        }
        entries.push_back(CachedKey { id, key, expires: now + ttl });
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::CredentialFingerprint;

    use super::*;

    const TTL: Duration = Duration::from_secs(1);

    fn id(of: u32, region: usize) -> SigningKeyId {
        let fingerprint = CredentialFingerprint(u128::from(of));
        SigningKeyId::new(KeyId::new(of), fingerprint, "20261129", &format!("region-{region}"))
    }

    /// A9: eight for each client key, the oldest is evicted first, and none outlives its TTL
    #[test]
    fn each_client_key_has_a_bounded_number_of_unlisted_regions() {
        let (unlisted, now) = (UnlistedRegionKeys::default(), clock::now());
        let insert = |of: u32, region| {
            let key = SigningKey::new([u8::try_from(region).unwrap(); 32]);
            unlisted.insert(KeyId::new(of), id(of, region), key, now, TTL);
        };
        let found = |of: u32, region, now| {
            unlisted.get(KeyId::new(of), &id(of, region), now).map(|key| usize::from(key.bytes()[0]))
        };
        insert(1, 0);
        (0..=UNLISTED_MAX).for_each(|region| insert(0, region));
        assert_eq!(found(0, 0, now), None, "the ninth key evicts the oldest");
        (1..=UNLISTED_MAX).for_each(|region| assert_eq!(found(0, region, now), Some(region)));
        assert_eq!(found(1, 0, now), Some(0), "another client key has its own limit");
        insert(0, UNLISTED_MAX);
        assert_eq!(found(0, 1, now), Some(1), "a repeated insert evicts nothing");
        assert_eq!(found(1, 0, now + TTL), None);
    }

    /// G3, A1: an entry of a former secret is not found with the fingerprint of the present one
    #[test]
    fn a_changed_secret_finds_no_entry_of_the_former_one() {
        let (cache, now) = (SigningKeyCache::default(), clock::now());
        let of = |key, secret| {
            SigningKeyId::new(KeyId::new(key), CredentialFingerprint(secret), "20261129", "eu-1")
        };
        for (key, secret) in [(0, 1), (1, 1)] {
            cache.configured.insert(of(key, secret), SigningKey::new([1; 32]), now, TTL);
            cache.unlisted.insert(KeyId::new(key), of(key, secret), SigningKey::new([1; 32]), now, TTL);
        }
        let found = |key: u32, secret| {
            let id = of(key, secret);
            [cache.configured.get(&id, now), cache.unlisted.get(KeyId::new(key), &id, now)]
                .map(|found| found.is_some())
        };
        assert_eq!([found(0, 1), found(0, 2)], [[true; 2], [false; 2]]);
    }
}
