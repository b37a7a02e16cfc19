//! How an upstream is reached, as whom, and what it calls a bucket.

mod addressing;
mod alpn;
mod below_path;
mod credentials;
mod misdirected;
mod renaming;
mod secrets;
mod slow_tls;
mod sni;
mod tls;
mod tls_reasons;
