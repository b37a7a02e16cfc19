//! Errors of a start.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use thiserror::Error;
use tidegate_config::key_name;

use super::jwks_fetcher::TokenSourceError;
use crate::descriptors::DescriptorLimitError;
use crate::server::tls::ServerTlsError;
use crate::upstream::connect::tls::TlsError;
use crate::upstream::credentials::sources::CredentialSourceError;

/// Why the gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("{key}: cannot listen on {address}: {source}{}", remedy(key, source))]
    Listen {
        /// The configuration key of the port.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// Two metrics of the same name: a defect of tidegate itself.
    #[error("a metric cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An endpoint's address is not a valid authority.
    #[error("{}: endpoint `{endpoint}` is not valid: {source}", section(bucket))]
    Endpoint {
        /// The bucket.
        bucket: String,
        /// The endpoint.
        endpoint: String,
        /// The cause.
        source: actix_web::http::uri::InvalidUri,
    },
    /// The TLS configuration of an upstream cannot be used.
    #[error("{}: {source}", section(bucket))]
    Tls {
        /// The bucket.
        bucket: String,
        /// The cause.
        source: TlsError,
    },
    /// A bucket's credentials cannot be used.
    #[error("{}: {source}", section(bucket))]
    Credentials {
        /// The bucket.
        bucket: String,
        /// The cause.
        source: CredentialSourceError,
    },
    /// The certificate of a listener, its key, or the authorities of clients cannot be used.
    #[error(transparent)]
    ServerTls(#[from] ServerTlsError),
    /// The keys that verify tokens cannot be used.
    #[error("jwt.{0}")]
    Tokens(#[from] TokenSourceError),
    /// No client could be served under the limit of descriptors.
    #[error(transparent)]
    Descriptors(#[from] DescriptorLimitError),
    /// A thread or a socket cannot be created.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// The section of a bucket.
fn section(bucket: &str) -> String {
    key_name(&["buckets", bucket])
}

/// What to do about an address that cannot be listened on. `port` is the key of its port.
fn remedy(port: &str, error: &io::Error) -> String {
    let address = port.replace("port", "address");
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("; stop the process that listens there, or set {port} to another port")
        }
        ErrorKind::PermissionDenied => {
            format!(
                "; set {port} to a port above 1023, or give the program the capability CAP_NET_BIND_SERVICE"
            )
        }
        ErrorKind::AddrNotAvailable => format!("; set {address} to an address of this machine"),
        _ => String::new(),
    }
}
