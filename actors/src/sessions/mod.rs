//! Identities and the keys that show them, remembered so that not every request derives them anew (C1).
//!
//! Three caches alike: a session ID maps to its identity, a client key, day and region to the signing key derived from
//! them, and a token's hash to what the token says, until its time is up. An ask costs more than deriving a signing
//! key, so each worker keeps those it has seen and asks here for what is new to it; this cache is what bounds and
//! ages them. Each is bounded: at capacity the oldest tenth leaves in one go, oldest by when it was last remembered,
//! so that the cost of making room is paid once per many insertions. Looking one up neither refreshes nor reorders
//! it, and so stays a read.
//!
//! ```text
//! remember ──▶ entry ──▶ resolve: hit
//!                ├── remembered again: as new
//!                ├── time-to-live over ──▶ resolve: miss, and it leaves
//!                └── at capacity and among the oldest tenth ──▶ leaves
//! ```
//!
//! *Restart*: a crash in `decide` forgets nothing. Found dirty, the cache is emptied: every session is verified again.
//! *While failed*: every look-up is a miss, and what is remembered is lost; requests are verified each time.
//! Deliberately absent: revocation, which comes from the configuration and never from a cache; a sweep of expired
//! entries, as the bound already holds and the oldest leave first.

mod actor;
mod handle;
mod id;
mod identity;
mod metrics;
mod state;

pub(crate) use actor::Sessions;
pub use actor::SessionsReport;
pub use handle::SessionsHandle;
pub use id::{InvalidSessionId, SessionId};
pub use identity::{ClientIdentity, KeyFingerprint, SigningKey, SigningKeyId, TokenHash, VerifiedToken};
pub(crate) use metrics::SessionsMetrics;
