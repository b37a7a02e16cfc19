//! Rules of a call: what an outcome means, retries, deadlines. `late_calls.rs`, `unanswered_calls.rs`, `refresh_health.rs` and
//! `store_clock.rs` are small shared records that rules and the status read. No I/O.

pub(crate) mod backoff;
pub(crate) mod conditional_write;
pub(crate) mod deadline;
pub(crate) mod event_streams;
pub(crate) mod late_calls;
pub(crate) mod outcome;
pub(crate) mod refresh_health;
pub(crate) mod rejection;
pub(crate) mod retry;
pub(crate) mod store_clock;
pub(crate) mod unanswered_calls;
