//! TLS towards clients (A7): what the data listener proves itself with.
//!
//! rustls on ring, which speaks TLS 1.2 and 1.3 only; HTTP/2 and HTTP/1.1 are agreed on within the handshake (RFC 7301).
//! What is proved with is one value that is swapped whole, so a connection sees one certificate with its own key and never
//! half a change. New files serve new handshakes; open connections live on. A swap also forgets the sessions that could
//! have been resumed: nothing of the old certificate is left to come back to.
//!
//! The files are looked at by size, time and number (`reload_interval`), and read on request (SIGHUP). A pair that
//! does not fit, as in the moment between two copies, is refused and told, and the old one goes on. Deliberately
//! absent: certificates by name, and stapled answers of the authority.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use slog::{Logger, error, info};
use thiserror::Error;
use tidegate_config::{Pem, PemError, SecretFile, SecretFileError, ServerTlsConfig};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

use crate::telemetry::metrics::TlsMetrics;

/// The protocol's name within the handshake.
pub(crate) const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why a certificate and its key cannot be used.
#[derive(Debug, Error)]
pub enum KeyPairError {
    /// The certificate's file is gone or empty.
    #[error("server.tls.certificate_file: {0}")]
    CertificateFile(#[from] PemError),
    /// The key's file is gone, empty, or open to others.
    #[error("server.tls.private_key_file: {0}")]
    KeyFile(#[from] SecretFileError),
    /// The file holds something else.
    #[error("server.tls.certificate_file: `{path}` is no list of certificates: {why}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong in it.
        why: String,
    },
    /// The file holds something else.
    #[error("server.tls.private_key_file: `{path}` holds no key that can be used: {why}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong in it.
        why: String,
    },
    /// One belongs to another pair.
    #[error(
        "server.tls.private_key_file: `{key}` is not the key of the first certificate in `{certificate}`"
    )]
    Mismatch {
        /// The key's file.
        key: String,
        /// The certificate's file.
        certificate: String,
    },
    /// rustls cannot be had in this shape.
    #[error("server.tls: {0}")]
    Protocol(rustls::Error),
}

/// What handshakes are made with.
pub(crate) struct ServerTls {
    certificate: String,
    key: SecretFile,
    http2: bool,
    current: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Reads the pair; none where clients speak cleartext.
    pub(crate) fn load(config: &ServerTlsConfig) -> Result<Option<Arc<Self>>, KeyPairError> {
        let Some((Pem { path, .. }, key)) = config.files() else { return Ok(None) };
        let current = ArcSwap::new(load_config(path, key, config.http2)?);
        Ok(Some(Arc::new(Self { certificate: path.clone(), key: key.clone(), http2: config.http2, current })))
    }

    /// For one handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    fn reload(&self) -> Result<(), KeyPairError> {
        self.current.store(load_config(&self.certificate, &self.key, self.http2)?);
        Ok(())
    }

    fn file_stamps(&self) -> [Option<FileStamp>; 2] {
        [FileStamp::of(Path::new(&self.certificate)), FileStamp::of(self.key.path())]
    }
}

fn load_config(certificate: &str, key: &SecretFile, http2: bool) -> Result<Arc<ServerConfig>, KeyPairError> {
    let (pem, secret) = (Pem::read(certificate)?, key.read()?);
    let key = key.path().display().to_string();
    let bad_certificate = |why: String| KeyPairError::Certificate { path: certificate.to_owned(), why };
    let bad_key = |why: String| KeyPairError::Key { path: key.clone(), why };
    let chain = CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| bad_certificate(error.to_string()))?;
    let private = PrivateKeyDer::from_pem_slice(secret.expose().as_bytes())
        .map_err(|error| bad_key(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(KeyPairError::Protocol)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                KeyPairError::Mismatch { key: key.clone(), certificate: certificate.to_owned() }
            }
            rustls::Error::InvalidCertificate(why) => bad_certificate(why.to_string()),
            other => bad_key(other.to_string()),
        })?;
    config.alpn_protocols =
        if http2 { vec![H2.to_vec(), HTTP_1_1.to_vec()] } else { vec![HTTP_1_1.to_vec()] };
    Ok(Arc::new(config))
}

/// What tells one state of a file from another.
#[derive(PartialEq, Eq)]
struct FileStamp {
    number: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl FileStamp {
    /// None where there is no such file at the moment.
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self { number: file.ino(), bytes: file.len(), modified: file.modified().ok() })
    }
}

/// Keeps the pair as new as its files.
pub(crate) struct CertificateReload {
    tls: Arc<ServerTls>,
    last_stamps: [Option<FileStamp>; 2],
    /// Notified to have the pair loaded although its files look the same.
    requests: Arc<Notify>,
    every: Duration,
    log: Logger,
    metrics: TlsMetrics,
}

impl CertificateReload {
    pub(crate) fn new(
        tls: &Arc<ServerTls>,
        every: Duration,
        requests: Arc<Notify>,
        log: Logger,
        metrics: TlsMetrics,
    ) -> Self {
        Self { last_stamps: tls.file_stamps(), tls: Arc::clone(tls), requests, every, log, metrics }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                () = self.requests.notified() => true,
                _ = ticks.tick() => false,
            };
            // Looked at before it is read: what changes in between is found the next time.
            let stamps = self.tls.file_stamps();
            if is_asked || stamps != self.last_stamps {
                self.last_stamps = stamps;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        let certificate = &self.tls.certificate;
        match self.tls.reload() {
            Ok(()) => {
                self.metrics.loaded.inc();
                info!(self.log, "certificate loaded anew"; "file" => certificate);
            }
            Err(refused) => {
                self.metrics.refused.inc();
                error!(self.log, "certificate refused, the old one goes on";
                    "error" => refused.to_string(), "file" => certificate);
            }
        }
    }
}
