//! Certificates that change while the gateway runs.

use super::{Identity, head, read, shown};
use crate::support::client::message;
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, wait_for};

impl Identity {
    /// A new pair in the place of the old one.
    fn renew(&self) {
        let (certificate, key) = self.pair();
        self.write("certificate.pem", &certificate, 0o644);
        self.write("key.pem", &key, 0o600);
    }

    /// Whether a new connection is shown the certificate in the directory.
    async fn is_current(&self, gateway: &Gateway) -> bool {
        shown(&self.connect(gateway, &["h2"]).await) == self.certificate()
    }
}

/// A7: SIGHUP has a new certificate read; new connections are shown it, and what runs on old ones goes on
#[tokio::test]
async fn a_new_certificate_is_taken_while_transfers_run() {
    let (identity, latch) = (Identity::new(), Latch::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let gateway = identity.before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    assert!(identity.is_current(&gateway).await);
    let http2 = identity.http2(&gateway).await;
    let (running, _) = http2.begin("GET", "/b/k", &[], true).await;
    let (mut over_http2, body) = head(running).await.unwrap();
    let mut http1 = identity.http1(&gateway).await;
    http1.send(message("GET", "/b/k", &[], None)).await;
    let mut over_http1 = http1.head().await;

    identity.renew();
    assert!(!identity.is_current(&gateway).await, "nobody asked for it yet");
    gateway.send_sighup();
    gateway.wait_for_log_line("certificate reloaded", |_| true).await;
    assert!(identity.is_current(&gateway).await);
    assert_eq!(gateway.metric("tls_reloads_total{result=\"loaded\"}").await, 1.0);

    latch.open_for_all();
    read(body, &mut over_http2.body).await.unwrap();
    http1.body(&mut over_http1, "GET").await;
    assert_eq!((over_http1.text().as_str(), over_http2.text().as_str()), ("beginend", "beginend"));
    assert_eq!(http2.get("/b/k").await.text(), "beginend", "the old connection lives on");
}

/// A7: files that change are found without being told of
#[tokio::test]
async fn new_files_are_found() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.before(&upstream).set("server.tls.reload_interval", "0.05").start().await;
    for _ in 0..3 {
        identity.renew();
        wait_for("the new certificate is shown", || async {
            identity.is_current(&gateway).await.then_some(())
        })
        .await;
    }
}

/// A7, Bad input: a pair that does not fit is refused and told, and the old one goes on until one does
#[tokio::test]
async fn a_bad_pair_is_refused_and_the_old_one_goes_on() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    let old = identity.certificate();
    let (certificate, key) = identity.pair();
    for (step, (name, text, mode, why)) in [
        ("certificate.pem", certificate.as_str(), 0o644, "is not the key of the first certificate"),
        ("key.pem", "nonsense", 0o600, "has no usable key"),
        ("key.pem", key.as_str(), 0o644, "is open to others"),
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
        assert_eq!(shown(&stream), old, "{why}");
    }
    identity.write("key.pem", &key, 0o600);
    gateway.send_sighup();
    gateway.wait_for_log_line("certificate reloaded", |_| true).await;
    assert!(identity.is_current(&gateway).await);
}
