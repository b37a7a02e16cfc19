//! The attempts of a request: breaker ticket, call, timeouts, classification, retries, hedges (R1–R5).

pub(crate) mod attempt_result;
pub(crate) mod call;
pub(crate) mod circuit_wait;
pub(crate) mod clock_measurement;
pub(crate) mod credential_feedback;
pub(crate) mod hedge;
mod hedge_timer;
pub(crate) mod misdirected;
pub(crate) mod prepared_call;
pub(crate) mod response_head;
pub(crate) mod timeouts;
