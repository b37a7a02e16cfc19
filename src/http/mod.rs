//! HTTP: the handlers of both listeners. `proxy.rs` is the request path; only `error/` contains status codes of local
//! replies.

mod admission;
mod authentication;
mod authority;
mod authorization;
mod bucket_list;
pub(crate) mod client_request;
pub(crate) mod cors;
pub(crate) mod cors_preflight;
pub(crate) mod error;
pub(crate) mod error_reply;
pub(crate) mod explain;
mod form;
mod grant;
pub(crate) mod head_rejection;
mod injection;
mod local_reply;
mod multi_delete;
mod priority;
pub(crate) mod probes;
pub(crate) mod proxy;
mod proxy_status;
mod rate_limit_headers;
#[cfg(feature = "bench")]
mod raw;
pub(crate) mod request_id;
pub(crate) mod request_validation;
mod route;
mod shadow;
mod shedding;
pub(crate) mod shedding_rejection;
