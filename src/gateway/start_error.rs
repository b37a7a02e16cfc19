//! Why the gateway does not start.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::auth::jwt::TokenKeysError;
use crate::http::tls::KeyPairError;
use crate::upstream::credentials::sources::CredentialSourceError;
use crate::upstream::tls::TlsError;

/// Why the gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The configuration key of the port.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Two metrics of the same name: a defect of tidegate itself.
    #[error("a metric cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An endpoint's address is no authority.
    #[error("buckets.{bucket}: `{endpoint}` cannot be called: {source}")]
    Endpoint {
        /// The bucket.
        bucket: String,
        /// The endpoint.
        endpoint: String,
        /// Why.
        source: actix_web::http::uri::InvalidUri,
    },
    /// An endpoint cannot be spoken to over TLS.
    #[error("buckets.{bucket}: {source}")]
    Tls {
        /// The bucket.
        bucket: String,
        /// Why.
        source: TlsError,
    },
    /// A bucket's credentials cannot be used.
    #[error("buckets.{bucket}: {source}")]
    Credentials {
        /// The bucket.
        bucket: String,
        /// Why.
        source: CredentialSourceError,
    },
    /// The certificate for clients or its key cannot be used.
    #[error(transparent)]
    Pair(#[from] KeyPairError),
    /// Tokens could not be verified.
    #[error("jwt.{0}")]
    Tokens(#[from] TokenKeysError),
    /// More buckets than there are IDs.
    #[error("buckets: there are more than 65535")]
    TooManyBuckets,
    /// The process itself leaves no descriptor for a client.
    #[error(
        "the limit of {limit} descriptors is too low, the gateway needs at least {needed}: raise the limit of open \
         files (ulimit -n, LimitNOFILE= in systemd, --ulimit nofile in Docker)"
    )]
    TooFewDescriptors {
        /// The limit of the process.
        limit: u64,
        /// The fewest with which one client can be served.
        needed: u64,
    },
    /// `monitor.descriptor_limit` leaves no descriptor for a client.
    #[error(
        "monitor.descriptor_limit: {limit} is too low, the gateway needs at least {needed} and would refuse every request; \
         raise it, or leave it out: then the limit of the system holds"
    )]
    DescriptorLimitKey {
        /// The value of the key.
        limit: u64,
        /// The fewest with which one client can be served.
        needed: u64,
    },
    /// A thread or socket could not be had.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}
