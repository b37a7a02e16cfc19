//! Certificate renewal while the gateway runs.

use super::{Identity, head, read, server_certificate};
use crate::support::client::message;
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, wait_for};

impl Identity {
    /// Replaces the pair by a new one.
    pub(crate) fn renew(&self) {
        let (certificate, key) = self.pair();
        self.write("certificate.pem", &certificate, 0o644);
        self.write("key.pem", &key, 0o600);
    }

    /// Whether a new connection gets the certificate in the directory.
    pub(super) async fn is_current(&self, gateway: &Gateway) -> bool {
        server_certificate(&self.connect(gateway, &["h2"]).await) == self.certificate()
    }
}

/// A7: SIGHUP reloads the certificate; new connections get the new one, and old connections continue
#[tokio::test]
async fn a_certificate_is_reloaded_during_transfers() {
    let (identity, latch) = (Identity::new(), Latch::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let gateway = identity.gateway_before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    assert!(identity.is_current(&gateway).await);
    let http2 = identity.http2(&gateway).await;
    let (running, _) = http2.begin("GET", "/b/k", &[], true).await;
    let (mut over_http2, body) = head(running).await.unwrap();
    let mut http1 = identity.http1(&gateway).await;
    http1.send(message("GET", "/b/k", &[], None)).await;
    let mut over_http1 = http1.head().await;

    identity.renew();
    assert!(!identity.is_current(&gateway).await, "no reload was requested yet");
    gateway.send_sighup();
    gateway.wait_for_log_line("certificate reloaded", |_| true).await;
    assert!(identity.is_current(&gateway).await);
    assert_eq!(gateway.metric("tls_reloads_total{result=\"loaded\"}").await, 1.0);

    latch.open_for_all();
    read(body, &mut over_http2.body).await.unwrap();
    http1.body(&mut over_http1, "GET").await;
    assert_eq!((over_http1.text().as_str(), over_http2.text().as_str()), ("beginend", "beginend"));
    assert_eq!(http2.get("/b/k").await.text(), "beginend", "the old connection stays open");
}

/// A7: changed files are detected without a signal
#[tokio::test]
async fn changed_files_are_detected() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("server.tls.reload_interval", "0.05").start().await;
    for _ in 0..3 {
        identity.renew();
        wait_for("the new certificate is shown", || async {
            identity.is_current(&gateway).await.then_some(())
        })
        .await;
    }
}

/// A7, Bad input: a certificate that does not match its key is refused and logged; the old pair stays in use until a
/// valid one
#[tokio::test]
async fn an_invalid_pair_is_refused_and_the_old_one_stays() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    let old = identity.certificate();
    let (certificate, key) = identity.pair();
    for (step, (name, text, mode, why)) in [
        ("certificate.pem", certificate.as_str(), 0o644, "is not the key of the first certificate"),
        ("key.pem", "nonsense", 0o600, "has no usable key"),
        ("key.pem", key.as_str(), 0o644, "can be read by other users"),
    ]
    .into_iter()
    .enumerate()
    {
        identity.write(name, text, mode);
        gateway.send_sighup();
        let refused = |line: &serde_json::Value| line["error"].as_str().unwrap_or_default().contains(why);
        gateway.wait_for_log_line("new certificate refused, the old one stays in use", refused).await;
        assert_eq!(gateway.metric("tls_reloads_total{result=\"refused\"}").await, step as f64 + 1.0);
        let stream = identity.connect(&gateway, &["h2"]).await;
        assert_eq!(server_certificate(&stream), old, "{why}");
    }
    identity.write("key.pem", &key, 0o600);
    gateway.send_sighup();
    gateway.wait_for_log_line("certificate reloaded", |_| true).await;
    assert!(identity.is_current(&gateway).await);
}

/// G3, A7: a reload changes the files of the certificate and the offered protocols, without another interval
#[tokio::test]
async fn a_reload_names_other_files() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let other = Identity::new();
    let with = |identity: &Identity, http2: bool| {
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| identity.path(name));
        format!(
            "[server.tls]\ncertificate_file = {certificate:?}\nprivate_key_file = {key:?}\nhttp2 = {http2}\nreload_interval = 3600\n"
        )
    };
    let builder = Gateway::builder().bucket("b", &upstream).config(&with(&identity, true));
    let gateway = builder.start().await;
    assert!(identity.is_current(&gateway).await);
    std::fs::write(gateway.directory().join("tidegate.toml"), with(&other, false)).unwrap();
    let reply = gateway.post("/reload").await;
    assert!(reply.complete_status() == 200 && reply.text().contains("\"applied\""), "{}", reply.text());
    let connection = other.connect(&gateway, &["h2", "http/1.1"]).await;
    assert_eq!(server_certificate(&connection), other.certificate());
    assert_eq!(connection.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    other.renew();
    gateway.send_sighup();
    wait_for("the new files are watched", || async {
        let connection = other.connect(&gateway, &["http/1.1"]).await;
        (server_certificate(&connection) == other.certificate()).then_some(())
    })
    .await;
}
