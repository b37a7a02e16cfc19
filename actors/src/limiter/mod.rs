//! Rate limits: global, per client IP and per bucket in one ask (L1, L2, L5); per client key or token subject in a
//! second ask after authentication, so that a forged key ID charges no key; and per client IP for failed
//! authentications (L8, `auth_failures.rs`).
//!
//! The algorithm is GCRA (`gcra.rs`). All limits of a request are checked together and charged together: if one
//! refuses, none is charged. Costs, shadow mode, the bounded table and leases are in `docs/design/rate-limits.md`.
//!
//! ```text
//! TAT' = max(TAT, now) + cost/rate      admit if  TAT' − now ≤ burst/rate      retry after  TAT' − burst/rate − now
//! ```
//!
//! A reload keeps the arrival times by ID, see `reconfigure.rs`.
//!
//! *Restart*: after a crash in `decide` the state is kept. If dirty, every key, known or not, starts with its burst
//! spent; lockouts for failed authentications stay.
//! *While failed*: limited requests are refused or pass, by `rate_limit.on_failure`.

mod actor;
mod auth_failures;
mod burst_peaks;
mod client_limits;
mod exported_limits;
mod gcra;
mod handle;
mod handover;
#[cfg(test)]
mod handover_tests;
mod lease;
mod limit_clock;
mod limit_status;
mod limits;
mod metrics;
mod pace_history;
mod peek;
mod per_key;
mod per_subject;
mod rate_ladder;
mod reconfigure;
#[cfg(test)]
mod reload_names_tests;
#[cfg(test)]
mod reload_tests;
mod settings;
mod state;
#[cfg(test)]
mod state_tests;
mod subject_hasher;
mod table;
mod tat;
mod timed_limit;
#[cfg(test)]
mod window_bound_tests;

pub(crate) use actor::Limiter;
pub use actor::LimiterReport;
pub(crate) use exported_limits::ExportedLimits;
pub use handle::{LimiterHandle, LimiterRejection};
pub use limit_status::{Allowed, LimitScope, LimitScopes, LimitStatus};
pub(crate) use metrics::LimiterMetrics;
pub use peek::PeekedLimit;
pub(crate) use per_key::PerKeyState;
pub(crate) use per_subject::{PerSubjectState, SubjectKey};
pub use rate_ladder::{LadderKey, RateLadder};
pub use reconfigure::LimiterReconfigure;
pub(crate) use settings::LimiterSettings;
pub(crate) use state::LimiterState;
