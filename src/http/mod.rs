//! HTTP: the two listeners' handlers. `proxy.rs` is the request path, `error/` the only place that names statuses.

pub(crate) mod admin;
pub(crate) mod admin_guard;
pub(crate) mod answer;
mod authority;
pub(crate) mod client_address;
pub(crate) mod client_wait;
pub(crate) mod connection;
pub(crate) mod cors;
pub(crate) mod edge;
pub(crate) mod error;
mod form;
pub(crate) mod http1;
pub(crate) mod http2;
mod injection;
mod introduce;
mod limits;
pub(crate) mod listener;
mod own;
pub(crate) mod path;
mod priority;
mod probes;
mod proxy;
pub(crate) mod proxy_protocol;
mod request_id;
pub(crate) mod send_buffer;
#[allow(dead_code, reason = "the connection loops call it")]
mod send_pace;
pub(crate) mod send_progress;
pub(crate) mod tls;
