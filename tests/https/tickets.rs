//! TLS session tickets: clients resume their sessions, until certificate, protocols or listener are others.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Identity, NAME};
use crate::support::client::message;
use crate::support::{Client, Gateway, Upstream, WAIT_MAX, wait_for};

/// A client that keeps its sessions from one connection to the next.
pub(crate) struct ResumingClient(TlsConnector);

impl ResumingClient {
    pub(crate) fn new(
        identity: &Identity,
        version: &'static SupportedProtocolVersion,
        as_client: bool,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match as_client {
            false => builder.with_no_client_auth(),
            true => builder.with_client_auth_cert(vec![identity.certificate()], identity.key()).unwrap(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Sends one request over a new connection. Returns the kind of its handshake.
    async fn connect(&self, address: SocketAddr, target: &str) -> HandshakeKind {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake = self.0.connect(ServerName::try_from(NAME).unwrap(), stream);
        let stream = timeout(WAIT_MAX, handshake).await.expect("a handshake in time").unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        // The client has its tickets when it has read an answer.
        let mut client = Client::new(stream);
        client.send(message("GET", target, &[], None)).await;
        assert_eq!(client.response("GET").await.complete_status(), 200);
        kind
    }

    pub(crate) async fn data(&self, gateway: &Gateway) -> HandshakeKind {
        self.connect(gateway.address(), "/b/k").await
    }

    async fn admin(&self, gateway: &Gateway) -> HandshakeKind {
        self.connect(gateway.admin_address(), "/livez").await
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A7: sessions of both versions are resumed, also by clients that connect often and at once
#[tokio::test]
async fn sessions_are_resumed() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    for version in VERSIONS {
        let client = ResumingClient::new(&identity, version, false);
        assert_eq!(client.data(&gateway).await, HandshakeKind::Full);
        for _ in 0..3 {
            assert_eq!(client.data(&gateway).await, HandshakeKind::Resumed);
        }
        let both = tokio::join!(client.data(&gateway), client.data(&gateway));
        assert_eq!(both, (HandshakeKind::Resumed, HandshakeKind::Resumed), "a session has two tickets");
    }
}

/// A7: no session of the old certificate is resumed after a swap; a reload without a change keeps the sessions
#[tokio::test]
async fn a_swapped_certificate_ends_the_sessions() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    let clients = VERSIONS.map(|version| ResumingClient::new(&identity, version, false));
    for client in &clients {
        assert_eq!(client.data(&gateway).await, HandshakeKind::Full);
    }
    let loaded = "tls_reloads_total{result=\"loaded\"}";
    for (is_renewed, kind) in [(false, HandshakeKind::Resumed), (true, HandshakeKind::Full)] {
        if is_renewed {
            identity.renew();
        }
        let before = gateway.metric(loaded).await;
        gateway.send_sighup();
        wait_for("the certificate is reloaded", || async {
            (gateway.metric(loaded).await > before).then_some(())
        })
        .await;
        for client in &clients {
            assert_eq!(client.data(&gateway).await, kind, "renewed: {is_renewed}");
            assert_eq!(client.data(&gateway).await, HandshakeKind::Resumed, "renewed: {is_renewed}");
        }
    }
}

/// A7, G3: a reload that changes the protocols ends the sessions
#[tokio::test]
async fn other_protocols_end_the_sessions() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let with = |http2: bool| {
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| identity.path(name));
        format!(
            "[server.tls]\ncertificate_file = {certificate:?}\nprivate_key_file = {key:?}\nhttp2 = {http2}\n"
        )
    };
    let gateway = Gateway::builder().bucket("b", &upstream).config(&with(true)).start().await;
    let client = ResumingClient::new(&identity, &version::TLS13, false);
    assert_eq!(client.data(&gateway).await, HandshakeKind::Full);
    std::fs::write(gateway.directory().join("tidegate.toml"), with(false)).unwrap();
    let reply = gateway.post("/reload").await;
    assert!(reply.complete_status() == 200 && reply.text().contains("\"applied\""), "{}", reply.text());
    assert_eq!(client.data(&gateway).await, HandshakeKind::Full);
    assert_eq!(client.data(&gateway).await, HandshakeKind::Resumed);
}

/// A7, O5: a ticket of one listener is not valid at the other, although both have the same certificate and protocols
#[tokio::test]
async fn a_ticket_of_one_listener_is_not_valid_at_the_other() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity
        .named_for_admin(identity.gateway_before(&upstream))
        .set("server.tls.http2", "false")
        .start()
        .await;
    for version in VERSIONS {
        let client = ResumingClient::new(&identity, version, false);
        assert_eq!(client.data(&gateway).await, HandshakeKind::Full);
        assert_eq!(client.admin(&gateway).await, HandshakeKind::Full, "a ticket of the data listener");
        assert_eq!(client.admin(&gateway).await, HandshakeKind::Resumed);
        let client = ResumingClient::new(&identity, version, false);
        assert_eq!(client.admin(&gateway).await, HandshakeKind::Full);
        assert_eq!(client.data(&gateway).await, HandshakeKind::Full, "a ticket of the admin listener");
    }
}

/// A7, O5: a listener that demands client certificates resumes no session, so each connection shows a valid certificate
#[tokio::test]
async fn sessions_with_client_certificates_are_not_resumed() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity
        .named_for_admin(identity.gateway_before(&upstream))
        .set("admin.tls.client_ca_file", &identity.authority_file())
        .start()
        .await;
    for version in VERSIONS {
        let client = ResumingClient::new(&identity, version, true);
        for _ in 0..3 {
            assert_eq!(client.admin(&gateway).await, HandshakeKind::Full);
        }
    }
}

/// Runs `openssl s_client` with one request; returns its output. It does not verify the certificate.
fn s_client(identity: &Identity, gateway: &Gateway, version: &str, session: [&str; 2]) -> String {
    let request = identity.path("request");
    std::fs::write(&request, format!("GET /b/k HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"))
        .unwrap();
    let output = Command::new("timeout")
        .args(["60", "openssl", "s_client", "-ign_eof", "-servername", NAME, version])
        .args(["-connect", &gateway.address().to_string()])
        .args(session)
        .stdin(Stdio::from(std::fs::File::open(&request).unwrap()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("HTTP/1.1 200"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A7: OpenSSL resumes a stored session, and makes a new one after a swap of the certificate
#[tokio::test]
async fn openssl_resumes_sessions() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    let session = identity.path("session.pem").to_str().unwrap().to_owned();
    for version in ["-tls1_2", "-tls1_3"] {
        let first = s_client(&identity, &gateway, version, ["-sess_out", &session]);
        assert!(first.contains("New, TLSv1") && !first.contains("Reused, TLSv1"), "{first}");
        // 12 h, in either version
        assert!(first.contains("ticket lifetime hint: 43200 (seconds)"), "{first}");
        let second = s_client(&identity, &gateway, version, ["-sess_in", &session]);
        assert!(second.contains("Reused, TLSv1"), "{second}");
        identity.renew();
        gateway.send_sighup();
        wait_for("the new certificate is in use", || async {
            identity.is_current(&gateway).await.then_some(())
        })
        .await;
        let third = s_client(&identity, &gateway, version, ["-sess_in", &session]);
        assert!(third.contains("New, TLSv1") && !third.contains("Reused, TLSv1"), "{third}");
    }
}
