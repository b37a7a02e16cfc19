//! Bounded caches of identities, derived signing keys and verified tokens, so that not every request derives them
//! again (C1).
//!
//! There are three caches of the same kind: session ID to identity; client key, date and region to signing key; token
//! hash to verified token. An ask costs more than deriving a signing key, so each worker caches what it has used and
//! asks here only for the rest. At capacity the oldest tenth by insertion is evicted at once, so the cost of eviction
//! is spread over many insertions. A lookup neither refreshes nor reorders an entry; inserting a key again makes
//! it the newest, with a new TTL. A lookup removes an expired entry. Expired entries are not swept: the capacity
//! bounds them.
//!
//! A reload purges the entries of withdrawn and changed keys, see `purges.rs`.
//!
//! *Restart*: after a crash in `decide` the caches are kept. If dirty, they are emptied, and every session is
//! verified again. What was purged stays purged.
//! *While failed*: every lookup is a miss and insertions are lost. Revocation comes from the configuration, never
//! from a cache.

mod actor;
mod handle;
mod id;
mod identity;
mod metrics;
mod purges;
mod reconfigure;
#[cfg(test)]
mod reload_tests;
mod state;

pub(crate) use actor::Sessions;
pub use actor::SessionsReport;
pub use handle::SessionsHandle;
pub use id::{InvalidSessionId, SessionId};
pub use identity::{
    ClientIdentity, CredentialFingerprint, KeyFingerprint, SigningKey, SigningKeyId, TokenHash, VerifiedToken,
};
pub(crate) use metrics::SessionsMetrics;
pub use reconfigure::SessionsReconfigure;
