//! TLS for clients (A7): the certificate of the data listener and its reload.
//!
//! rustls on ring, with TLS 1.2 and 1.3 only; ALPN selects HTTP/2 or HTTP/1.1 within the handshake (RFC 7301).
//! Certificate and key are one value that is swapped atomically, so no connection sees a certificate with another
//! key. New files apply to new handshakes; open connections stay. A swap also discards the sessions for resumption,
//! so no session of the old certificate can be resumed.
//!
//! The files are checked for a change of size, time or inode number every `reload_interval`, and loaded on request
//! (SIGHUP). A pair that does not match, as between two copies, is refused and logged, and the old one stays in use.
//! Certificates by name and OCSP stapling are not supported.

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
use tidegate_actors::clock;
use tidegate_config::{Pem, PemError, SecretFile, SecretFileError, ServerTlsConfig};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

use crate::server::certificate_validity;
use crate::telemetry::metrics::TlsMetrics;
use crate::upstream::rules::refresh_health::RefreshHealth;

/// The ALPN name of HTTP/2.
pub(crate) const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why a certificate and its key cannot be used.
#[derive(Debug, Error)]
pub enum KeyPairError {
    /// The certificate's file is missing or empty.
    #[error("server.tls.certificate_file: {0}")]
    CertificateFile(#[from] PemError),
    /// The key's file is missing, empty, or accessible to others.
    #[error("server.tls.private_key_file: {0}")]
    KeyFile(#[from] SecretFileError),
    /// The file is not a list of certificates.
    #[error("server.tls.certificate_file: `{path}` is not a list of certificates: {why}")]
    Certificate {
        /// The file.
        path: String,
        /// The error in it.
        why: String,
    },
    /// The file has no usable key.
    #[error("server.tls.private_key_file: `{path}` has no usable key: {why}")]
    Key {
        /// The file.
        path: String,
        /// The error in it.
        why: String,
    },
    /// The key does not match the certificate.
    #[error(
        "server.tls.private_key_file: `{key}` is not the key of the first certificate in `{certificate}`"
    )]
    Mismatch {
        /// The key's file.
        key: String,
        /// The certificate's file.
        certificate: String,
    },
    /// rustls refuses these settings.
    #[error("server.tls: {0}")]
    Protocol(rustls::Error),
}

/// The certificate and key for handshakes.
pub(crate) struct ServerTls {
    certificate: String,
    key: SecretFile,
    http2: bool,
    current: ArcSwap<LoadedPair>,
    /// Whether the last change of the files could be loaded.
    pub(crate) reload_health: RefreshHealth,
}

/// A certificate with its key.
struct LoadedPair {
    config: Arc<ServerConfig>,
    /// The end of its validity; none if it is not known.
    not_after: Option<SystemTime>,
}

impl ServerTls {
    /// Loads the pair; `None` for cleartext.
    pub(crate) fn load(config: &ServerTlsConfig) -> Result<Option<Arc<Self>>, KeyPairError> {
        let Some((Pem { path, .. }, key)) = config.files() else { return Ok(None) };
        let current = ArcSwap::from_pointee(load_pair(path, key, config.http2)?);
        Ok(Some(Arc::new(Self {
            certificate: path.clone(),
            key: key.clone(),
            http2: config.http2,
            current,
            reload_health: RefreshHealth::default(),
        })))
    }

    /// Returns an acceptor with the current pair for one handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    /// The end of the validity of the current certificate; none if it is not known.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        self.current.load().not_after
    }

    fn reload(&self) -> Result<(), KeyPairError> {
        self.current.store(Arc::new(load_pair(&self.certificate, &self.key, self.http2)?));
        Ok(())
    }

    fn file_stamps(&self) -> [Option<FileStamp>; 2] {
        [FileStamp::of(Path::new(&self.certificate)), FileStamp::of(self.key.path())]
    }
}

fn load_pair(certificate: &str, key: &SecretFile, http2: bool) -> Result<LoadedPair, KeyPairError> {
    let (pem, secret) = (Pem::read(certificate)?, key.read()?);
    let key = key.path().display().to_string();
    let bad_certificate = |why: String| KeyPairError::Certificate { path: certificate.to_owned(), why };
    let bad_key = |why: String| KeyPairError::Key { path: key.clone(), why };
    let chain = CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| bad_certificate(error.to_string()))?;
    // Clients refuse the whole chain when the first of its certificates has ended.
    let not_after = chain.iter().filter_map(|certificate| certificate_validity::not_after(certificate)).min();
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
    Ok(LoadedPair { config: Arc::new(config), not_after })
}

/// The properties by which a change of a file is detected.
#[derive(PartialEq, Eq)]
struct FileStamp {
    number: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl FileStamp {
    /// `None` if there is no such file at the moment.
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self { number: file.ino(), bytes: file.len(), modified: file.modified().ok() })
    }
}

/// Reloads the pair when its files change.
pub(crate) struct CertificateReload {
    tls: Arc<ServerTls>,
    last_stamps: [Option<FileStamp>; 2],
    /// Notified to reload the pair even if its files look unchanged.
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
            let is_requested = tokio::select! {
                () = self.requests.notified() => true,
                _ = ticks.tick() => false,
            };
            // The stamps are taken before the files are read: a change in between is detected the next time.
            let stamps = self.tls.file_stamps();
            if is_requested || stamps != self.last_stamps {
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
                self.tls.reload_health.record_success();
                info!(self.log, "certificate reloaded"; "file" => certificate);
            }
            Err(error) => {
                self.metrics.refused.inc();
                self.tls.reload_health.record_failure(error.to_string(), None, clock::now());
                error!(self.log, "new certificate refused, the old one stays in use";
                    "error" => error.to_string(), "file" => certificate);
            }
        }
    }
}
