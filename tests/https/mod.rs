//! TLS clients: handshakes, HTTP/1.1 and HTTP/2 over TLS, and certificate renewal.
//!
//! The clients are rustls and `h2` themselves, so that tests see the negotiated protocol and how a stream ended.

mod files;
mod forwarded;
mod http1;
mod http2;
mod renewal;
mod slow;
mod streams;
pub(crate) mod tickets;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Scratch, Upstream, WAIT_MAX};

/// The name in every certificate, and the `Host` of `support::client`.
pub(crate) const NAME: &str = "gateway.test";

/// An authority, and a directory with the gateway's certificate and key.
pub(crate) struct Identity {
    authority: CertifiedIssuer<'static, KeyPair>,
    directory: Scratch,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let identity = Self { authority, directory: Scratch::new() };
        let (certificate, key) = identity.pair();
        identity.write("certificate.pem", &certificate, 0o644);
        identity.write("key.pem", &key, 0o600);
        identity
    }

    /// A new certificate and its key, as PEM.
    fn pair(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new([NAME.to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &self.authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The file of the authority's certificate.
    pub(crate) fn authority_file(&self) -> String {
        self.write("authority.pem", &self.authority.pem(), 0o644).to_str().unwrap().to_owned()
    }

    /// Gives the admin listener this certificate.
    pub(crate) fn named_for_admin(&self, builder: Builder) -> Builder {
        builder
            .set("admin.tls.certificate_file", self.path("certificate.pem").to_str().unwrap())
            .set("admin.tls.private_key_file", self.path("key.pem").to_str().unwrap())
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The certificate in the directory.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path("certificate.pem")).unwrap()
    }

    /// The key in the directory.
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.path("key.pem")).unwrap()
    }

    /// A gateway with bucket `b` and this certificate.
    pub(crate) fn gateway_before(&self, upstream: &Upstream) -> Builder {
        self.named(Gateway::builder().bucket("b", upstream))
    }

    pub(crate) fn named(&self, builder: Builder) -> Builder {
        builder
            .set("server.tls.certificate_file", self.path("certificate.pem").to_str().unwrap())
            .set("server.tls.private_key_file", self.path("key.pem").to_str().unwrap())
    }

    /// Trusts only this authority, offers these protocols, and shows the certificate of `client`.
    fn connector(&self, protocols: &[&str], client: Option<&Self>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(client) => builder.with_client_auth_cert(vec![client.certificate()], client.key()).unwrap(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    pub(crate) async fn tls_handshake(&self, stream: TcpStream, protocols: &[&str]) -> TlsStream<TcpStream> {
        self.tls_handshake_as(None, stream, protocols).await
    }

    /// The handshake of a client with the certificate of `client`.
    pub(crate) async fn tls_handshake_as(
        &self,
        client: Option<&Self>,
        stream: TcpStream,
        protocols: &[&str],
    ) -> TlsStream<TcpStream> {
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let handshake = self.connector(protocols, client).connect(name, stream);
        timeout(WAIT_MAX, handshake).await.expect("a handshake in time").unwrap()
    }

    pub(crate) async fn connect(&self, gateway: &Gateway, protocols: &[&str]) -> TlsStream<TcpStream> {
        self.tls_handshake(TcpStream::connect(gateway.address()).await.unwrap(), protocols).await
    }

    async fn http1(&self, gateway: &Gateway) -> Client<TlsStream<TcpStream>> {
        Client::new(self.connect(gateway, &["http/1.1"]).await)
    }

    pub(crate) async fn http2(&self, gateway: &Gateway) -> Http2 {
        Http2::over(self.connect(gateway, &["h2"]).await, &h2::client::Builder::new()).await
    }
}

/// The server certificate of a connection.
pub(crate) fn server_certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// One HTTP/2 connection.
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    /// Ends with the connection.
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    pub(crate) async fn over(stream: TlsStream<TcpStream>, builder: &h2::client::Builder) -> Self {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        Self { requests, ended: tokio::spawn(connection) }
    }

    /// Sends a request head; `is_bare` means without a body.
    pub(crate) async fn begin(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        is_bare: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = http::Request::builder().method(method).uri(format!("https://{NAME}{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = timeout(WAIT_MAX, self.requests.clone().ready()).await.unwrap().unwrap();
        requests.send_request(request.body(()).unwrap(), is_bare).unwrap()
    }

    /// A complete exchange. A body gets no length header automatically.
    pub(crate) async fn exchange(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Response {
        let (answer, mut sending) = self.begin(method, target, headers, body.is_none()).await;
        if let Some(body) = body {
            // The answer may arrive before the body is sent.
            let _ = sending.send_data(Bytes::copy_from_slice(body), true);
        }
        let (mut answer, body) = head(answer).await.unwrap();
        answer.broken = read(body, &mut answer.body).await.err().map(|error| error.to_string());
        answer
    }

    pub(crate) async fn get(&self, target: &str) -> Response {
        self.exchange("GET", target, &[], None).await
    }

    pub(crate) async fn put(&self, target: &str, body: &[u8]) -> Response {
        let length = body.len().to_string();
        self.exchange("PUT", target, &[("content-length", &length)], Some(body)).await
    }

    /// The reason of the GOAWAY that has come, after which no stream can begin.
    pub(crate) async fn goaway(&self) -> Option<h2::Reason> {
        let error = timeout(WAIT_MAX, self.requests.clone().ready()).await.unwrap().err()?;
        assert!(error.is_go_away() && error.is_remote(), "{error}");
        error.reason()
    }

    /// Waits until the gateway has closed the connection cleanly; a failed close_notify of the client is ignored.
    pub(crate) async fn closed(self) {
        let ended = timeout(WAIT_MAX, self.ended).await.expect("the connection ends in time").unwrap();
        assert!(ended.as_ref().err().is_none_or(h2::Error::is_io), "{ended:?}");
    }
}

/// The head of an answer, with its unread body.
pub(crate) async fn head(answer: ResponseFuture) -> Result<(Response, RecvStream), h2::Error> {
    let (head, body) = timeout(WAIT_MAX, answer).await.expect("an answer in time")?.into_parts();
    let headers = head.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    Ok((Response { status: head.status.as_u16(), headers, body: Vec::new(), broken: None }, body))
}

/// The rest of a body; window is granted for all of it.
pub(crate) async fn read(mut body: RecvStream, into: &mut Vec<u8>) -> Result<(), h2::Error> {
    while let Some(piece) = timeout(WAIT_MAX, body.data()).await.expect("a body in time") {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        into.extend_from_slice(&piece);
    }
    Ok(())
}
