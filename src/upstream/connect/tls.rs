//! TLS towards upstreams (A7): the trusted authorities of a bucket, and the handshake.
//!
//! rustls with ring, TLS 1.2 and 1.3 only. ALPN offers only HTTP/1.1, the protocol of the client above it. The server
//! name that is requested and verified is the endpoint's, whatever bucket a request is for, so that all requests to
//! an endpoint share connections. With `tls.sni = "host"` it is the name in `Host`. Each bucket section has its own
//! set of authorities, and with it its own session cache. Not supported: client certificates, and any way to skip
//! verification.
//!
//! Design: `docs/design/connections.md`.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use thiserror::Error;
use tidegate_actors::clock;
use tidegate_config::{Pem, TlsConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream::connect::tls_failure::TlsFailure;

/// Why TLS to the https endpoints of a bucket cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file of authorities is malformed.
    #[error("tls.ca_file: `{path}` is no list of certificates: {why}")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no authorities, and the bucket names none.
    #[error(
        "tls: the system's certificates cannot be loaded ({0}); set tls.ca_file to the file of an authority"
    )]
    NoRoots(String),
    /// rustls does not support this configuration.
    #[error("tls: {0}")]
    Protocol(#[from] rustls::Error),
    /// The endpoint's host is not valid in a certificate.
    #[error("tls: `{0}` is not a valid name for a certificate")]
    Name(String),
}

/// The endpoint has no certificate for the name in a request's `Host`, which a client chose.
#[derive(Debug, Error)]
#[error("it has no certificate for the name `{name}`")]
pub(crate) struct HostNotInCertificate {
    name: String,
}

/// The server name of a bucket with virtual addressing.
pub(crate) fn bucket_server_name(bucket: &str, host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = format!("{bucket}.{host}");
    ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name))
}

/// Makes TLS handshakes with one endpoint.
pub(crate) struct UpstreamTls {
    connector: TlsConnector,
    host: String,
    name: ServerName<'static>,
    history: Mutex<HandshakeHistory>,
}

/// How the handshakes with one endpoint ended.
#[derive(Debug, Default)]
struct HandshakeHistory {
    /// The failure of the last handshake, until one succeeds.
    failing: Option<FailingTls>,
    /// The outcome in the last log line: a failure, or none for a success.
    logged: Option<TlsFailure>,
    /// When the current log period began.
    period_began: Option<Instant>,
    /// Lines in the current log period.
    lines: u32,
}

/// The log period and its maximum of lines. A host may have several addresses of which one fails: without a limit,
/// every connection would write a line.
const LOG_PERIOD: Duration = Duration::from_secs(60);
const LINES_MAX: u32 = 4;

impl HandshakeHistory {
    /// Records a handshake. Returns its outcome if the last log line has another one and the period has lines left.
    fn record(&mut self, failure: Option<&TlsFailure>, now: Instant) -> Option<TlsChange> {
        self.failing = failure.map(|failure| FailingTls {
            since: self.failing.as_ref().map_or(now, |known| known.since),
            failure: failure.clone(),
        });
        if self.logged.as_ref() == failure {
            return None;
        }
        if self.period_began.is_none_or(|began| now.saturating_duration_since(began) >= LOG_PERIOD) {
            (self.period_began, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES_MAX {
            return None;
        }
        self.lines += 1;
        self.logged = failure.cloned();
        Some(failure.map_or(TlsChange::Recovered, |failure| TlsChange::Failed(failure.clone())))
    }
}

/// An endpoint with no successful handshake since one failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailingTls {
    pub(crate) since: Instant,
    pub(crate) failure: TlsFailure,
}

/// A handshake outcome that is not in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TlsChange {
    /// The handshake failed for another reason than in the last line.
    Failed(TlsFailure),
    /// The handshake succeeded after a failure in the last line.
    Recovered,
}

impl UpstreamTls {
    pub(crate) fn new(config: &Arc<ClientConfig>, host: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(Self { connector, host: host.to_owned(), name, history: Mutex::default() })
    }

    /// Makes the handshake. The server name is the endpoint's, after `bucket` if that is not empty. The second value
    /// is a change to log.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        bucket: &str,
    ) -> (io::Result<TlsStream<TcpStream>>, Option<TlsChange>) {
        let name = match bucket.is_empty() {
            true => Ok(self.name.clone()),
            false => bucket_server_name(bucket, &self.host),
        };
        let name = match name {
            Ok(name) => name,
            Err(error) => return (Err(io::Error::other(error)), None),
        };
        let result = self.connector.connect(name.clone(), stream).await.map_err(|error| {
            if !bucket.is_empty() && is_name_mismatch(&error) {
                io::Error::other(HostNotInCertificate { name: name.to_str().into_owned() })
            } else {
                TlsFailure::wrap(error)
            }
        });
        let change = match result.as_ref().map_err(TlsFailure::of) {
            Ok(_) => self.history().record(None, clock::now()),
            Err(Some(failure)) => self.history().record(Some(failure), clock::now()),
            // The connection broke, or the certificate lacks a name that a client chose: no evidence about trust.
            Err(None) => None,
        };
        (result, change)
    }

    fn history(&self) -> MutexGuard<'_, HandshakeHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current failure. None if the last handshake succeeded.
    pub(crate) fn failure(&self) -> Option<FailingTls> {
        self.history().failing.clone()
    }
}

/// Whether a handshake may have failed because of the server name: the certificate is for other names (RFC 9525), or
/// the server ended the handshake. Servers without a certificate for a name send `unrecognized_name` (RFC 6066,
/// section 3), `access_denied`, `handshake_failure` or another alert. Alerts about versions, protocols and client
/// certificates do not count.
fn is_name_mismatch(error: &io::Error) -> bool {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => TlsFailure::may_be_name_alert(*alert),
        Some(rustls::Error::InvalidCertificate(cause)) => matches!(
            cause,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ),
        _ => false,
    }
}

/// The TLS configuration of a bucket's connections.
pub(crate) fn client_config(config: &TlsConfig) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &config.ca_file {
        add_authorities(&mut roots, pem)?;
    }
    if config.system_roots {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(TlsError::NoRoots(why.join(", ")));
        }
    }
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(client))
}

fn add_authorities(roots: &mut RootCertStore, Pem { path, text }: &Pem) -> Result<(), TlsError> {
    let cause = |why: String| TlsError::Authorities { path: path.clone(), why };
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| cause(error.to_string()))?;
        roots.add(certificate).map_err(|error| cause(error.to_string()))?;
    }
    Ok(())
}

/// Whether a connection failed because the endpoint has no certificate for the name in a request's `Host`.
pub(crate) fn is_host_mismatch(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<HostNotInCertificate>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> TlsConfig {
        let ca_file = Some(Pem { path: "ca.pem".to_owned(), text: text.to_owned() });
        TlsConfig { ca_file, system_roots: false }
    }

    /// A7, C3: an endpoint with a good and a bad address writes few lines, and the log ends with the current outcome
    #[test]
    fn alternating_handshakes_write_few_log_lines() {
        let failure = TlsFailure::from(&rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let began = clock::now();
        let mut history = HandshakeHistory::default();
        let mut last = None;
        let mut lines = 0;
        for second in 0..600 {
            let outcome = (second % 2 == 0).then_some(&failure);
            if let Some(change) = history.record(outcome, began + Duration::from_secs(second)) {
                (last, lines) = (Some(change), lines + 1);
            }
            assert_eq!(history.failing.is_some(), outcome.is_some(), "the status shows every outcome");
        }
        assert_eq!(lines, 4 * 10);
        let rest = history.record(None, began + Duration::from_secs(700));
        assert_eq!(rest.or(last), Some(TlsChange::Recovered));
    }

    /// A7
    #[test]
    fn a_malformed_authority_file_is_an_error() {
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = client_config(&with(damaged)).unwrap_err().to_string();
        assert!(error.starts_with("tls.ca_file: `ca.pem` is no list of certificates"), "{error}");
    }

    #[test]
    fn only_http_1_1_is_offered() {
        let authority = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
        let config = client_config(&with(&authority.cert.pem())).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        assert!(UpstreamTls::new(&config, "10.0.0.5").is_ok() && UpstreamTls::new(&config, "a..b").is_err());
    }
}
