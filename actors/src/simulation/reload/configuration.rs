//! One configuration with its IDs and handles, as `Shared` in `src/process/shared.rs`. A request holds it to its end.

use std::sync::Arc;

use tidegate_config::{Config, UpstreamConfig};

use crate::ids::Ids;
use crate::limiter::LimiterHandle;
use crate::sessions::{CredentialFingerprint, SigningKey};
use crate::system::Actors;
use crate::types::{BucketId, ConfigNumber, KeyId};

/// A name with its ID.
pub(super) type Named<I> = (Arc<str>, I);

/// A configuration.
pub(super) struct Configuration {
    pub(super) number: ConfigNumber,
    pub(super) config: Config,
    pub(super) ids: Ids,
    pub(super) actors: Actors,
    /// The limiter's handles, one per thread.
    pub(super) limiters: Vec<LimiterHandle>,
    pub(super) buckets: Vec<Named<BucketId>>,
    pub(super) keys: Vec<Named<KeyId>>,
}

impl Configuration {
    pub(super) fn new(
        number: ConfigNumber,
        (config, ids): (Config, Ids),
        actors: Actors,
        threads: usize,
    ) -> Self {
        let buckets = ids.buckets().map(|(name, id)| (name.into(), id)).collect();
        let keys = ids.client_keys().map(|(name, id)| (name.into(), id)).collect();
        let limiters = (0..threads).map(|_| actors.limiter.on_another_thread()).collect();
        Self { number, config, ids, actors, limiters, buckets, keys }
    }

    pub(super) fn has_key(&self, id: KeyId) -> bool {
        self.keys.iter().any(|(_, own)| *own == id)
    }

    pub(super) fn has_bucket(&self, id: BucketId) -> bool {
        self.buckets.iter().any(|(_, own)| *own == id)
    }

    pub(super) fn upstream(&self, bucket: &str) -> Option<&UpstreamConfig> {
        self.config.buckets.get(bucket).map(|bucket| &bucket.upstream)
    }

    fn secret(&self, key: &str) -> Option<&[u8]> {
        self.config.keys.get(key).map(|key| key.secret.expose().as_bytes())
    }

    /// Stands for the fingerprint of a key's secret.
    pub(super) fn fingerprint(&self, key: &str) -> CredentialFingerprint {
        let bytes = key.bytes().chain(self.secret(key).unwrap_or_default().iter().copied());
        CredentialFingerprint(bytes.fold(0, |hash, byte| hash.rotate_left(7) ^ u128::from(byte)))
    }

    /// Stands for the signing key that is derived from a key's secret.
    pub(super) fn signing_key(&self, key: &str) -> SigningKey {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.fingerprint(key).0.to_le_bytes());
        SigningKey::new(bytes)
    }

    /// The keys of this configuration that `next` lacks or that have another secret there.
    pub(super) fn withdrawn(&self, next: &Self) -> Vec<KeyId> {
        let stays = |(name, id): &&Named<KeyId>| next.has_key(*id) && self.secret(name) == next.secret(name);
        self.keys.iter().filter(|key| !stays(key)).map(|(_, id)| *id).collect()
    }
}
