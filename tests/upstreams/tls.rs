//! Upstreams over TLS: a real rustls server that forwards the plaintext to a scripted upstream.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::secrets::file;
use crate::jwt;
use crate::jwt::issuer::Issuer;
use crate::support::client::{message, sha256};
use crate::support::{Client, Gateway, Scratch, Upstream, UpstreamReply, gateway, put};

/// An authority, and a TLS front for `localhost`.
pub(super) struct Front {
    pub(super) address: SocketAddr,
    authority: String,
    /// The server name and the negotiated protocol of each connection.
    handshakes: Arc<Mutex<Vec<(String, String)>>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TlsClose {
    CloseNotify,
    Abrupt,
    Reset,
}

impl Front {
    pub(super) async fn in_front_of(upstream: &Upstream, close: TlsClose) -> Self {
        Self::offering(&["h2", "http/1.1"], upstream, close).await
    }

    /// A front with a certificate for these names.
    pub(super) async fn named(names: &[&str], upstream: &Upstream) -> Self {
        Self::new(names, false, &["http/1.1"], upstream, TlsClose::CloseNotify).await
    }

    /// The same, which aborts the handshake for another server name.
    pub(super) async fn strict(names: &[&str], upstream: &Upstream) -> Self {
        Self::new(names, true, &["http/1.1"], upstream, TlsClose::CloseNotify).await
    }

    /// A front that offers these protocols by ALPN.
    pub(super) async fn offering(protocols: &[&str], upstream: &Upstream, close: TlsClose) -> Self {
        Self::new(&["localhost"], false, protocols, upstream, close).await
    }

    async fn new(
        served: &[&str],
        is_strict: bool,
        protocols: &[&str],
        upstream: &Upstream,
        close: TlsClose,
    ) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = served.iter().map(|name| (*name).to_owned()).collect();
        let names = CertificateParams::new(names).unwrap();
        let certificate = names.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![certificate.der().clone()];
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())
            .unwrap();
        if is_strict {
            let mut by_name = ResolvesServerCertUsingSni::new();
            let certified = CertifiedKey::from_der(chain, key, &provider).unwrap();
            for name in served {
                by_name.add(name, certified.clone()).unwrap();
            }
            config.cert_resolver = Arc::new(by_name);
        }
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), upstream.address());
        let handshakes = Arc::<Mutex<Vec<_>>>::default();
        let into = Arc::clone(&handshakes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(acceptor.clone(), stream, behind, close, Arc::clone(&into)));
            }
        });
        Self { address, authority: authority.pem(), handshakes }
    }

    /// A gateway with the endpoint `localhost`, at `address`.
    pub(super) fn gateway_to(self, address: SocketAddr, directory: &Scratch) -> gateway::Builder {
        let front = Self { address, ..self };
        front.gateway("localhost", &front.authority, directory)
    }

    /// A gateway in front of it, and the handshakes of its connections.
    pub(super) async fn into_gateway(
        self,
        directory: &Scratch,
    ) -> (Gateway, Arc<Mutex<Vec<(String, String)>>>) {
        let gateway = self.gateway("localhost", &self.authority, directory).start().await;
        (gateway, self.handshakes)
    }

    /// A gateway with the endpoint `localhost` that trusts its authority.
    pub(super) fn trusted(&self, directory: &Scratch) -> gateway::Builder {
        self.gateway("localhost", &self.authority, directory)
    }

    /// The server names, one for each connection.
    pub(super) fn asked_for(&self) -> Vec<String> {
        self.handshakes.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// A gateway with the endpoint `host` that trusts only this authority.
    fn gateway(&self, host: &str, authority: &str, directory: &Scratch) -> gateway::Builder {
        let ca = file(directory.path(), "ca.pem", authority, 0o644);
        Gateway::builder()
            .set("buckets.b.auth", "anonymous")
            .set("buckets.b.s3.endpoints", &format!("https://{host}:{}", self.address.port()))
            .set("buckets.b.s3.tls.ca_file", ca.to_str().unwrap())
            .set("buckets.b.s3.tls.system_roots", "false")
    }
}

async fn pass(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    behind: SocketAddr,
    close: TlsClose,
    handshakes: Arc<Mutex<Vec<(String, String)>>>,
) {
    stream.set_nodelay(true).unwrap();
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let (socket, session) = stream.get_ref();
    if close == TlsClose::Reset {
        socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let protocol = String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default()).into_owned();
    let name = session.server_name().unwrap_or_default().to_owned();
    handshakes.lock().unwrap().push((name, protocol));
    let mut plain = TcpStream::connect(behind).await.unwrap();
    plain.set_nodelay(true).unwrap();
    let (mut from_upstream, mut to_upstream) = plain.split();
    let (mut from_gateway, mut to_gateway) = split(stream);
    let up = async {
        let _ = copy(&mut from_gateway, &mut to_upstream).await;
        let _ = to_upstream.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(bytes @ 1..) = from_upstream.read(&mut buffer).await {
            if to_gateway.write_all(&buffer[..bytes]).await.is_err() || to_gateway.flush().await.is_err() {
                return;
            }
        }
        if close == TlsClose::CloseNotify {
            let _ = to_gateway.shutdown().await;
        }
    };
    // With a close_notify incoming bytes are still read, so that no reset overtakes the answer; without one the
    // connection closes at once.
    match close {
        TlsClose::CloseNotify => drop(tokio::join!(up, down)),
        TlsClose::Abrupt | TlsClose::Reset => tokio::select! {
            () = up => {}
            () = down => {}
        },
    }
}

/// A7, V9: an https endpoint is called by its name over HTTP/1.1, although it offers HTTP/2, on a kept connection;
/// bodies are complete in both directions
#[tokio::test]
async fn an_https_endpoint_is_an_endpoint_like_any_other() {
    let body = vec![7; 3 << 20];
    let answer = body.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok(&answer));
    let (front, directory) = (Front::in_front_of(&upstream, TlsClose::CloseNotify).await, Scratch::new());
    let gateway =
        front.gateway("localhost", &front.authority, &directory).set("server.workers", "1").start().await;
    for _ in 0..3 {
        let answer = put(gateway.address(), "/b/k", &body).await;
        assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
        assert_eq!(upstream.last().sha256(), sha256(&body));
    }
    let host = format!("localhost:{}", front.address.port());
    assert_eq!(upstream.last().header("host"), Some(host.as_str()));
    let handshakes = front.handshakes.lock().unwrap().clone();
    assert_eq!(handshakes, [("localhost".to_owned(), "http/1.1".to_owned())], "one connection");
}

/// A7: a certificate of an untrusted authority or for another name is refused: 502, and nothing is sent
#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let upstream = Upstream::ok("");
    let (front, other) = (
        Front::in_front_of(&upstream, TlsClose::CloseNotify).await,
        Front::in_front_of(&upstream, TlsClose::CloseNotify).await,
    );
    let directory = Scratch::new();
    for (host, authority, why) in
        [("localhost", &other.authority, "certificate"), ("127.0.0.1", &front.authority, "certificate")]
    {
        let gateway = front.gateway(host, authority, &directory).start().await;
        let answer = put(gateway.address(), "/b/k", "body").await;
        assert_eq!((answer.complete_status(), answer.reason()), (502, "upstream_tls"), "{host}");
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 0);
}

/// A7: an invalid authority file is a start-up error
#[tokio::test]
async fn a_damaged_authority_file_is_a_start_up_error() {
    let upstream = Upstream::ok("");
    let (front, directory) = (Front::in_front_of(&upstream, TlsClose::CloseNotify).await, Scratch::new());
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let ended = front.gateway("localhost", damaged, &directory).run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("buckets.b: tls.ca_file: "), "{}", ended.stderr);
}

/// A7, T6: an answer delimited by the close is complete only with a TLS close_notify
#[tokio::test]
async fn a_close_without_close_notify_is_a_broken_transfer() {
    for (close, is_broken) in [(TlsClose::CloseNotify, false), (TlsClose::Abrupt, true)] {
        let upstream = Upstream::start(|_| UpstreamReply::ok("to the close").until_close());
        let (front, directory) = (Front::in_front_of(&upstream, close).await, Scratch::new());
        let gateway = front.gateway("localhost", &front.authority, &directory).start().await;
        let mut client = Client::connect(gateway.address()).await;
        client.send(message("GET", "/b/k", &[], None)).await;
        // An immediate break may deliver no byte at all.
        let answer = client.try_response("GET").await;
        let whole = answer.filter(|answer| answer.broken.is_none()).map(|answer| answer.text());
        assert_eq!(whole.as_deref(), (!is_broken).then_some("to the close"));
    }
}

/// T7, A7: an early answer in mid-upload is forwarded over TLS
#[tokio::test]
async fn an_early_answer_is_forwarded_over_tls() {
    let upstream = Upstream::replying_before_body(|_| UpstreamReply::s3_error(403, "AccessDenied").closing());
    let (front, directory) = (Front::in_front_of(&upstream, TlsClose::CloseNotify).await, Scratch::new());
    let gateway = front.gateway("localhost", &front.authority, &directory).start().await;
    let mut client = Client::connect(gateway.address()).await;
    let piece = vec![b'x'; 1 << 20];
    let head = message("PUT", "/b/k", &[("content-length", &(64 << 20).to_string())], None);
    let mut pausing = Client::connect(gateway.address()).await;
    pausing.send(&head).await;
    assert_eq!(pausing.response("PUT").await.status, 403, "despite the client's pause");
    client.send(&head).await;
    // More than all buffers on the way hold; after its answer the gateway need not read the rest.
    for _ in 0..64 {
        if client.try_send(&piece).await.is_err() {
            break;
        }
    }
    let answer = client.try_response("PUT").await.expect("the answer to the upload");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("AccessDenied"));
}

/// A3, A7: token keys are fetched over TLS, only from a server with a certificate of the configured authority
#[tokio::test]
async fn keys_of_tokens_are_fetched_over_tls() {
    let (upstream, issuer) = (Upstream::ok("x"), Issuer::p256().named("one"));
    let keys = serde_json::json!({ "keys": [issuer.jwk()] }).to_string();
    let source = Upstream::start(move |_| UpstreamReply::ok(&keys));
    let (front, other) = (
        Front::in_front_of(&source, TlsClose::CloseNotify).await,
        Front::in_front_of(&source, TlsClose::CloseNotify).await,
    );
    let directory = Scratch::new();
    let url = format!("https://localhost:{}/keys", front.address.port());
    let gateway = |name: &str, authority: &str| {
        let ca = file(directory.path(), name, authority, 0o644);
        let builder = jwt::buckets(&upstream).set("jwt.jwks_url", &url).set("jwt.tls.system_roots", "false");
        builder.set("jwt.tls.ca_file", ca.to_str().unwrap())
    };
    let token = issuer.token(&jwt::claims());
    let trusting = gateway("right.pem", &front.authority).start().await;
    assert_eq!(jwt::send_with_token(&trusting, "GET", "/b/k", &token).await.complete_status(), 200);
    let distrusting = gateway("wrong.pem", &other.authority).start().await;
    let refused = jwt::send_with_token(&distrusting, "GET", "/b/k", &token).await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "token_keys"));
    assert_eq!(source.count(), 1);
}
