//! HTTP: the handlers of both listeners. `proxy.rs` is the request path; only `error/` contains status codes of local
//! replies.

pub(crate) mod admin;
pub(crate) mod admin_guard;
mod admission;
mod authentication;
mod authority;
mod authorization;
mod bucket_list;
pub(crate) mod connection;
pub(crate) mod cors;
pub(crate) mod cors_preflight;
pub(crate) mod error;
pub(crate) mod error_reply;
mod form;
mod grant;
pub(crate) mod http1;
pub(crate) mod http2;
mod injection;
pub(crate) mod listener;
mod local_reply;
mod multi_delete;
mod priority;
mod probes;
mod proxy;
pub(crate) mod proxy_protocol;
mod rate_limit_headers;
#[cfg(feature = "bench")]
mod raw;
mod request_id;
pub(crate) mod request_validation;
mod route;
pub(crate) mod send_buffer;
