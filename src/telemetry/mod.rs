//! Log lines and metrics (O2, O3). The record of a request is in `upstream/record/mod.rs`.
//!
//! No code here blocks a request: a line is built in a buffer of its thread and passed to the writer thread, and the metrics of a bucket
//! are resolved at the start. There are no tracing spans and no exporters.

pub(crate) mod escape;
pub(crate) mod fields;
pub(crate) mod json;
pub mod log;
pub(crate) mod metrics;
pub mod panics;
mod quantity;
pub(crate) mod redact;
mod terminal;
mod timestamp;

use std::time::Duration;

pub use escape::{escape_controls, escape_json_document};
pub use quantity::{counted, requests_by_bucket, unit_of};
pub(crate) use timestamp::rfc3339;

/// Whole milliseconds, for log fields and the status document.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
