//! The named credentials of a bucket: choice and limits, throttling, evidence of a refusal, and checks (C3).

mod actor;
pub(crate) mod credential;
mod handle;
pub(crate) mod metrics;
pub(crate) mod refusal_evidence;
pub(crate) mod selector;
pub(crate) mod suspects;
