//! Upstreams: addressing, identity, TLS, and bucket names.

mod addressing;
mod alpn;
mod below_path;
mod credentials;
mod early_resets;
mod health_answers;
mod hostile_answers;
mod hostile_answers_http2;
mod interim;
mod kept_connections;
mod kept_tls_connections;
mod kept_uploads;
mod misdirected;
mod renaming;
mod secrets;
mod slow_tls;
mod sni;
mod tls;
mod tls_reasons;
