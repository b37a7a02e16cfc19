//! Pure rules of a call: what an outcome means, retries, deadlines, the clock of a store. State, input and time are
//! arguments.

pub(crate) mod backoff;
pub(crate) mod conditional_write;
pub(crate) mod deadline;
pub(crate) mod late_calls;
pub(crate) mod outcome;
pub(crate) mod refresh_health;
pub(crate) mod rejection;
pub(crate) mod retry;
pub(crate) mod store_clock;
