//! What the gateway says of itself: log lines, the access record of each request, metrics.
//!
//! Everything here is off the request's critical path: a line is built in a thread's own buffer and handed to a
//! writer thread, metrics are resolved per bucket at the start. Deliberately absent: tracing spans and exporters.

mod escape;
mod fields;
pub(crate) mod hedges;
pub(crate) mod json;
pub mod log;
pub(crate) mod metrics;
pub mod panics;
pub(crate) mod record;
pub(crate) mod redact;
mod terminal;
mod timestamp;
