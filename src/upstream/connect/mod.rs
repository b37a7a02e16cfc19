//! The way to an endpoint: its addresses, the dialer, TLS, and the key that decides which connections a request may use.

pub(crate) mod connection_key;
pub(crate) mod destination;
pub(crate) mod dialer;
pub(crate) mod dns_cache;
pub(crate) mod resolver;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod tls_failure;
