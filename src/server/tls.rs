//! TLS for clients (A7): the certificates of the two listeners and their reload.
//!
//! rustls on ring, with TLS 1.2 and 1.3 only; ALPN selects HTTP/2 or HTTP/1.1 within the handshake (RFC 7301).
//! Certificate and key are one value that is swapped atomically, so no connection sees a certificate with another
//! key. New files apply to new handshakes; open connections stay. Session tickets (`tls_tickets.rs`) are bound to the
//! certificates, so no session of an old certificate can be resumed. With authorities of clients there is no resumption.
//!
//! The files are checked for a change of size, time or inode number every `reload_interval`, and loaded on request
//! (SIGHUP). A pair that does not match, as between two copies, is refused and logged, and the old one stays in use.
//! Certificates by name and OCSP stapling are not supported. Only the admin listener verifies client certificates.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use slog::{Logger, error, info};
use thiserror::Error;
use tidegate_actors::clock;
use tidegate_config::{AdminTlsConfig, Pem, PemError, SecretFile, SecretFileError, ServerTlsConfig};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::server::certificate_validity::{self, Validity};
use crate::server::tls_tickets::{TicketBinding, TicketKeys, Ticketer};
use crate::telemetry::metrics::TlsMetrics;
use crate::upstream::rules::refresh_health::RefreshHealth;

/// The ALPN name of HTTP/2.
pub(crate) const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// Tickets after a handshake of TLS 1.3. A client uses each once (RFC 8446, C.4): two allow one more connection than before.
const TICKETS: usize = 2;

/// Why TLS files of a listener cannot be used.
#[derive(Debug, Error)]
#[error("{section}.{source}")]
pub struct ServerTlsError {
    /// The section of the configuration that names the files.
    section: &'static str,
    source: TlsFileError,
}

/// The key of a file, and the error in it.
#[derive(Debug, Error)]
enum TlsFileError {
    /// The certificate's file is missing or empty.
    #[error("certificate_file: {0}")]
    CertificateFile(PemError),
    /// The key's file is missing, empty, or accessible to others.
    #[error("private_key_file: {0}")]
    KeyFile(#[from] SecretFileError),
    /// The file of the authorities of clients is missing or empty.
    #[error("client_ca_file: {0}")]
    ClientCaFile(PemError),
    /// The file is not a list of certificates.
    #[error("certificate_file: `{path}` is not a list of certificates: {why}")]
    Certificate { path: String, why: String },
    /// The file has no usable key.
    #[error("private_key_file: `{path}` has no usable key: {why}")]
    Key { path: String, why: String },
    /// The key does not match the certificate.
    #[error("private_key_file: `{key}` is not the key of the first certificate in `{certificate}`")]
    Mismatch { key: String, certificate: String },
    /// The file is not a list of authorities.
    #[error("client_ca_file: `{path}` is not a list of authorities: {why}")]
    ClientCa { path: String, why: String },
    /// rustls refuses these settings.
    #[error("certificate_file: {0}")]
    Protocol(rustls::Error),
}

/// The files of a listener, the protocols that it offers, and how often the files are checked.
struct TlsFiles {
    certificate: String,
    key: SecretFile,
    /// The authorities of client certificates. With them each client needs a certificate.
    client_ca: Option<String>,
    protocols: &'static [&'static [u8]],
    every: Duration,
}

/// The certificate and key for handshakes.
pub(crate) struct ServerTls {
    section: &'static str,
    files: ArcSwap<TlsFiles>,
    ticket_keys: Arc<TicketKeys>,
    current: ArcSwap<LoadedPair>,
    /// Whether the last change of the files could be loaded.
    pub(crate) reload_health: RefreshHealth,
}

/// A certificate with its key.
struct LoadedPair {
    config: Arc<ServerConfig>,
    /// The end of its validity; none if it is not known.
    validity: Option<Validity>,
}

impl ServerTls {
    /// Loads the pair of the data listener; `None` for cleartext.
    pub(crate) fn load(
        config: &ServerTlsConfig,
        ticket_keys: &Arc<TicketKeys>,
    ) -> Result<Option<Arc<Self>>, ServerTlsError> {
        let Some((Pem { path, .. }, key)) = config.files() else { return Ok(None) };
        let protocols: &[&[u8]] = if config.http2 { &[H2, HTTP_1_1] } else { &[HTTP_1_1] };
        let files = TlsFiles {
            certificate: path.clone(),
            key: key.clone(),
            client_ca: None,
            protocols,
            every: config.reload_interval,
        };
        Self::of("server.tls", files, ticket_keys).map(Some)
    }

    /// Loads the pair and the authorities of the admin listener; `None` for cleartext.
    pub(crate) fn load_admin(
        config: &AdminTlsConfig,
        ticket_keys: &Arc<TicketKeys>,
    ) -> Result<Option<Arc<Self>>, ServerTlsError> {
        let Some((Pem { path, .. }, key)) = config.files() else { return Ok(None) };
        let client_ca = config.client_ca_file.as_ref().map(|pem| pem.path.clone());
        let (certificate, key, every) = (path.clone(), key.clone(), config.reload_interval);
        let files = TlsFiles { certificate, key, client_ca, protocols: &[HTTP_1_1], every };
        Self::of("admin.tls", files, ticket_keys).map(Some)
    }

    fn of(
        section: &'static str,
        files: TlsFiles,
        ticket_keys: &Arc<TicketKeys>,
    ) -> Result<Arc<Self>, ServerTlsError> {
        let ticket_keys = Arc::clone(ticket_keys);
        let current =
            files.load(section, &ticket_keys).map_err(|source| ServerTlsError { section, source })?;
        let (files, current) = (ArcSwap::from_pointee(files), ArcSwap::from_pointee(current));
        Ok(Arc::new(Self { section, files, ticket_keys, current, reload_health: RefreshHealth::default() }))
    }

    /// Returns an acceptor with the current pair for one handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    /// The validity of the current certificate; none if it is not known.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.current.load().validity
    }

    /// Continues with the files and the pair of another configuration.
    pub(crate) fn replace_by(&self, next: &Self) {
        self.files.store(next.files.load_full());
        self.current.store(next.current.load_full());
        self.reload_health.record_success();
    }

    fn reload(&self) -> Result<(), ServerTlsError> {
        let section = self.section;
        let pair = self.files.load().load(section, &self.ticket_keys);
        let pair = pair.map_err(|source| ServerTlsError { section, source })?;
        self.current.store(Arc::new(pair));
        Ok(())
    }
}

impl TlsFiles {
    fn load(&self, section: &str, ticket_keys: &Arc<TicketKeys>) -> Result<LoadedPair, TlsFileError> {
        let certificate = &self.certificate;
        let pem = Pem::read(certificate).map_err(TlsFileError::CertificateFile)?;
        let secret = self.key.read()?;
        let key = self.key.path().display().to_string();
        let bad_certificate = |why: String| TlsFileError::Certificate { path: certificate.clone(), why };
        let bad_key = |why: String| TlsFileError::Key { path: key.clone(), why };
        let chain = certificates(&pem).map_err(|error| bad_certificate(error.to_string()))?;
        // Clients refuse the whole chain when one of its certificates is not valid.
        let each = chain.iter().filter_map(|certificate| certificate_validity::validity(certificate));
        let validity = each.reduce(Validity::and);
        let private = PrivateKeyDer::from_pem_slice(secret.expose().as_bytes())
            .map_err(|error| bad_key(error.to_string()))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsFileError::Protocol)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(client_verifier(path)?),
        };
        let binding = TicketBinding::new(section, self.protocols, &chain);
        let mut config = builder.with_single_cert(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsFileError::Mismatch { key: key.clone(), certificate: certificate.clone() }
            }
            rustls::Error::InvalidCertificate(why) => bad_certificate(why.to_string()),
            other => bad_key(other.to_string()),
        })?;
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self.set_resumption(&mut config, Ticketer::new(ticket_keys, binding));
        Ok(LoadedPair { config: Arc::new(config), validity })
    }

    /// Clients resume by tickets; those of TLS 1.2 without tickets by the cache of rustls, which has 256 sessions.
    ///
    /// rustls does not verify the client's certificate when a session is resumed, and each resumption gives new tickets. So
    /// with authorities of clients nothing is resumed: an expired or withdrawn certificate could be used for ever.
    fn set_resumption(&self, config: &mut ServerConfig, ticketer: Ticketer) {
        if self.client_ca.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = Arc::new(ticketer);
            config.send_tls13_tickets = TICKETS;
        }
    }

    fn stamps(&self) -> [Option<FileStamp>; 3] {
        let client_ca = self.client_ca.as_ref().map(Path::new);
        [Some(Path::new(&self.certificate)), Some(self.key.path()), client_ca]
            .map(|path| path.and_then(FileStamp::of))
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect()
}

/// Accepts only clients with a certificate of the authorities in this file.
fn client_verifier(path: &str) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let bad = |why: String| TlsFileError::ClientCa { path: path.to_owned(), why };
    let pem = Pem::read(path).map_err(TlsFileError::ClientCaFile)?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(&pem).map_err(|error| bad(error.to_string()))? {
        roots.add(authority).map_err(|error| bad(error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| bad(error.to_string()))
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
    last_stamps: [Option<FileStamp>; 3],
    /// Notified to reload the pair even if its files look unchanged.
    requests: Arc<Notify>,
    log: Logger,
    metrics: TlsMetrics,
}

impl CertificateReload {
    pub(crate) fn new(tls: &Arc<ServerTls>, requests: Arc<Notify>, log: Logger, metrics: TlsMetrics) -> Self {
        Self { last_stamps: tls.files.load().stamps(), tls: Arc::clone(tls), requests, log, metrics }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let every = self.tls.files.load().every;
            let is_requested = tokio::select! {
                () = self.requests.notified() => true,
                () = tokio::time::sleep(every) => false,
            };
            self.tls.ticket_keys.rotate(clock::now());
            // The stamps are taken before the files are read: a change in between is detected the next time.
            let stamps = self.tls.files.load().stamps();
            if is_requested || stamps != self.last_stamps {
                self.last_stamps = stamps;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        let files = self.tls.files.load_full();
        let certificate = &files.certificate;
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
