//! Rate limits: global, per client IP and per bucket, decided in one ask (L1, L2, L5); per client key or subject of a
//! token in a second one, once that is verified, so that a forged key ID spends nobody's budget; and per client IP
//! for authentications that fail (L8, see `failures`).
//!
//! The algorithm is GCRA: per key one timestamp, the *theoretical arrival time*. It admits at most
//! `rate · window + burst` over any window, needs no timer, and says exactly when to try again. All limits that
//! apply to a request are checked together and charged together: none is charged when another refuses.
//!
//! ```text
//! TAT' = max(TAT, now) + cost/rate      admit when  TAT' − now ≤ burst/rate      retry after  TAT' − burst/rate − now
//! ```
//!
//! A request costs 1 token, or what is configured for its class of operations: the cost is the request's and the same for all
//! limits. A limit in shadow mode refuses nothing and is charged as if it did, see `state`.
//!
//! The table of clients is bounded; clients beyond it share one budget, and who gets a place of its own later begins with
//! what that budget has used up, for some of it may be its own. Each new client sweeps two old ones, so idle clients leave
//! without a timer.
//!
//! *Restart*: a crash in `decide` forgets nothing. Found dirty, every key, known or not, starts with its burst spent; who was
//! closed for failed authentications stays so.
//! *While failed*: requests that have a limit are refused, or pass, as `rate_limit.on_failure` says.
//! High limits are leased: an answer may bring a few admissions more, debited in advance, see `lease.rs`.
//! Deliberately absent: one shard per worker. One ask covers three scopes, which would lie in different shards.

mod actor;
mod auth_failures;
mod gcra;
mod handle;
mod lease;
mod limit_status;
mod metrics;
mod per_key;
mod per_subject;
mod state;
#[cfg(test)]
mod state_tests;
mod table;

pub(crate) use actor::Limiter;
pub use actor::LimiterReport;
pub(crate) use auth_failures::{AuthFailuresState, AuthLockout};
pub(crate) use handle::{BucketLimits, Limits};
pub use handle::{LimiterHandle, LimiterRejection};
pub use limit_status::{Allowed, LimitScope, LimitScopes, LimitStatus};
pub(crate) use metrics::LimiterMetrics;
pub(crate) use per_key::PerKeyState;
pub(crate) use per_subject::PerSubjectState;
pub(crate) use state::LimiterState;
