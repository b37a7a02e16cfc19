//! The adaptive concurrency limit of a bucket (P7, B3). See `docs/design/adaptive-limit.md`.

pub(crate) mod adaptive_limit;
mod latency_histogram;
pub(crate) mod limit_samples;
