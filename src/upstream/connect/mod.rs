//! The way to an endpoint: its addresses, the dialer and TLS.

pub(crate) mod destination;
pub(crate) mod dialer;
pub(crate) mod dns_cache;
pub(crate) mod resolver;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod tls_failure;
