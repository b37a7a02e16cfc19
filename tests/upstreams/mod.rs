//! How an upstream is reached, as whom, and what it calls a bucket.

mod addressing;
mod alpn;
mod credentials;
mod secrets;
mod slow_tls;
mod tls;
mod tls_reasons;
