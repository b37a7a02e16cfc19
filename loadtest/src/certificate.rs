//! A self-signed certificate for the servers under test, created for one run. Only the clients of the run trust it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use toml::Table;

use crate::gateway::table;

/// The name in the certificate.
pub(crate) const NAME: &str = "localhost";

/// A certificate and its key in files.
pub(crate) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Creates certificate and key in `directory`.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let made = generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
        let CertifiedKey { cert, signing_key } = made;
        let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
        write(&certificate, &cert.pem())?;
        write(&key, &signing_key.serialize_pem())?;
        Ok(Self { certificate, key, der: cert.der().clone() })
    }

    /// The gateway's settings for this certificate.
    pub(crate) fn settings(&self) -> Table {
        let text = |path: &Path| path.to_string_lossy().into_owned().into();
        let files = [("certificate_file", text(&self.certificate)), ("private_key_file", text(&self.key))];
        table([("server", table([("tls", table(files).into())]).into())])
    }

    /// The files of the certificate and of the key.
    pub(crate) fn files(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }

    /// Writes certificate and key into one file, as some servers need them.
    pub(crate) fn write_joined(&self, path: &Path) -> io::Result<()> {
        let [certificate, key] = [&self.certificate, &self.key].map(std::fs::read_to_string);
        write(path, &(certificate? + &key?))
    }

    /// The TLS configuration of a client with this ALPN protocol. It resumes no session, so each of its handshakes is a full one.
    pub(crate) fn client_without_resumption(&self, protocol: &str) -> io::Result<Arc<ClientConfig>> {
        let mut config = Arc::unwrap_or_clone(self.client(protocol)?);
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// The TLS configuration of a client with this ALPN protocol.
    pub(crate) fn client(&self, protocol: &str) -> io::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }
}

/// Writes a file that only its owner may read, because the gateway requires that for keys.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
