//! TLS to the admin listener: which certificate is accepted.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError,
    RootCertStore, SignatureScheme, StreamOwned,
};

/// Which servers are trusted.
pub(crate) struct TrustedServer(Arc<dyn ServerCertVerifier>);

impl TrustedServer {
    /// Any server that proves the key of its certificate. No secret may be sent to it.
    pub(crate) fn any() -> Self {
        Self(Arc::new(KeyHolder { provider: Arc::new(ring::default_provider()), expected: None }))
    }

    /// The server with the first certificate of this PEM text, whatever its names and its age.
    pub(crate) fn with_certificate(pem: &str) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| format!("no certificate can be read from it: {error}"))?;
        let provider = Arc::new(ring::default_provider());
        Ok(Self(Arc::new(KeyHolder { provider, expected: Some(certificate) })))
    }

    /// Servers with a valid certificate of an authority that the system trusts.
    pub(crate) fn of_system() -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier =
            verifier.map_err(|error| format!("the system has no usable authorities for TLS: {error}"))?;
        Ok(Self(verifier))
    }
}

/// A TLS connection over this one. Without a name the certificate cannot be checked by its name.
pub(crate) fn tls_stream<S: Read + Write>(
    stream: S,
    name: Option<ServerName<'static>>,
    trusted: &TrustedServer,
) -> io::Result<StreamOwned<ClientConnection, S>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&trusted.0))
        .with_no_client_auth();
    let name = name.unwrap_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4]))));
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// Accepts a certificate with a valid signature of the handshake, if it is the expected one.
#[derive(Debug)]
struct KeyHolder {
    provider: Arc<CryptoProvider>,
    expected: Option<CertificateDer<'static>>,
}

impl ServerCertVerifier for KeyHolder {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match &self.expected {
            Some(expected) if expected != certificate => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
