//! HTTP/1.1 towards upstreams: connections, and one request and one response at a time on each.
//!
//! `sent_request.rs` sends a request over a connection of a pool (`pool.rs`) and reads the head of the response; `response_stream.rs`
//! reads the body. No task, timer or channel belongs to a call. The pure parts are `response_head.rs`, `response_framing.rs` and
//! `crate::body_framing`. All of it is generic over the stream, so tests and fuzz targets run it in memory. awc sends the requests of the
//! gateway itself (`internal_request.rs`).
//!
//! Design: `docs/design/connections.md`.

mod common_names;
pub(crate) mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod internal_connection;
pub(crate) mod internal_request;
pub(crate) mod memory;
pub(crate) mod outbound_head;
pub(crate) mod pool;
pub(crate) mod request_writer;
pub(crate) mod response_framing;
pub(crate) mod response_head;
mod response_head_error;
mod response_stream;
pub(crate) mod send_error;
pub(crate) mod sent_request;
