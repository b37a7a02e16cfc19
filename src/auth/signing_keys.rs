//! Signing keys of clients, derived once and kept (C1): on this thread first, in the session cache behind it.
//!
//! A signing key follows from a secret, a day and a region by four HMACs, about a microsecond each; asking an actor costs more
//! than that. So the common case is a look-up on the worker's own thread; a thread that has not seen a key asks the
//! session cache, which bounds and ages what is kept, and derives it only if nobody has it. Only keys of the
//! configuration get here, on days within a presigned URL's week and for regions of buckets: strangers can grow neither.

use tidegate_actors::{KeyId, SigningKey, SigningKeyId, clock};

use super::recent::Recent;
use crate::s3::sigv4::canonical::signing_key;
use crate::worker::Worker;

/// What one worker thread knows.
#[derive(Default)]
pub(crate) struct SigningKeys(Recent<SigningKeyId, SigningKey>);

impl SigningKeys {
    /// The signing key of a client key.
    pub(crate) async fn get(&self, key: KeyId, date: &str, region: &str, worker: &Worker) -> [u8; 32] {
        let id = SigningKeyId::new(key, date, region);
        let now = clock::now();
        if let Some(known) = self.0.find(&id, now) {
            return known.bytes();
        }
        let sessions = &worker.shared.actors.sessions;
        let found = match sessions.signing_key(&id).await {
            Some(found) => found,
            None => {
                let derived = SigningKey::new(signing_key(worker.shared.keyring.secret(key), date, region));
                sessions.remember_signing_key(&id, derived.clone()).await;
                derived
            }
        };
        let bytes = found.bytes();
        self.0.keep(id, found, now, worker.shared.config.sessions.ttl);
        bytes
    }
}
