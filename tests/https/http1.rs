//! TLS handshakes, and HTTP/1.1 over TLS.

use std::time::{Duration, Instant};

use super::{Identity, NAME};
use crate::support::client::{message, sha256};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, random_bytes};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

/// A7: ALPN selects a protocol that both sides offer, HTTP/2 if both are possible
#[tokio::test]
async fn the_protocol_is_negotiated_in_the_handshake() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    for (http2, offered, agreed) in [
        ("true", &["h2", "http/1.1"][..], Some("h2")),
        ("true", &["http/1.1", "h2"], Some("h2")),
        ("true", &["http/1.1"], Some("http/1.1")),
        ("true", &[], None),
        ("false", &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let gateway = identity.gateway_before(&upstream).set("server.tls.http2", http2).start().await;
        let stream = identity.connect(&gateway, offered).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes), "{http2} {offered:?}");
        assert!(Client::new(stream).try_send("").await.is_ok());
    }
}

/// A7: bodies are forwarded completely in both directions, many on one connection
#[tokio::test]
async fn requests_pass_over_http_1() {
    let (identity, body) = (Identity::new(), random_bytes(3 << 20));
    let answer = body.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok(&answer));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut client = identity.http1(&gateway).await;
    for _ in 0..3 {
        client.send(message("PUT", "/b/k", &[], Some(&body))).await;
        let answer = client.response("PUT").await;
        assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
        assert_eq!(upstream.last().sha256(), sha256(&body));
    }
}

/// A7, T6: a transfer that breaks upstream breaks over TLS too
#[tokio::test]
async fn a_broken_transfer_breaks_over_tls() {
    let identity = Identity::new();
    let upstream = Upstream::start(|_| UpstreamReply::ok("a complete answer").cut_at(5));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut client = identity.http1(&gateway).await;
    client.send(message("GET", "/b/k", &[], None)).await;
    let answer = client.try_response("GET").await;
    assert!(answer.is_none_or(|answer| answer.broken.is_some() || answer.status == 502));
}

/// A7, Bad input: a client without TLS, or with another trusted authority, fails and is counted
#[tokio::test]
async fn a_failed_handshake_is_counted() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut plain = Client::connect(gateway.address()).await;
    plain.send(message("GET", "/b/k", &[], None)).await;
    assert!(plain.try_response("GET").await.is_none());
    let untrusted = Identity::new().connector(&[], None);
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    assert!(untrusted.connect(ServerName::try_from(NAME).unwrap(), stream).await.is_err());
    let counted = || async {
        (gateway.metrics().await.contains("unrouted_total{reason=\"tls_handshake\"} 2")).then_some(())
    };
    crate::support::wait_for("both are counted", counted).await;
    let line = gateway.wait_for_log_line("request", |line| line["reason"] == "tls_handshake").await;
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(upstream.count(), 0);
}

/// A7, T4: a handshake has the same timeout as a request head
#[tokio::test]
async fn a_slow_handshake_ends_the_connection() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("server.header_timeout", "0.4").start().await;
    let began = Instant::now();
    let mut slow = Client::connect(gateway.address()).await;
    // The beginning of a record with a larger announced length.
    slow.send([0x16, 3, 1, 2, 0, 1]).await;
    assert!(slow.is_closed().await);
    assert!(began.elapsed() >= Duration::from_millis(400));
    gateway.wait_for_log_line("request", |line| line["reason"] == "tls_handshake_timeout").await;
    assert_eq!(gateway.metric("unrouted_total{reason=\"tls_handshake_timeout\"}").await, 1.0);
}

/// A7, L3: the PROXY header comes before the handshake
#[tokio::test]
async fn a_proxy_header_comes_before_the_handshake() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity
        .gateway_before(&upstream)
        .set("server.proxy_protocol", "true")
        .set("server.trusted_proxies", "127.0.0.0/8")
        .start()
        .await;
    let proxied = async |protocol: &str| {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        let header = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, header).await.unwrap();
        identity.tls_handshake(stream, &[protocol]).await
    };
    let mut http1 = Client::new(proxied("http/1.1").await);
    http1.send(message("GET", "/b/k", &[], None)).await;
    let first = http1.response("GET").await;
    let http2 = super::Http2::over(proxied("h2").await, &h2::client::Builder::new()).await;
    let second = http2.get("/b/k").await;
    for answer in [first, second] {
        assert_eq!(answer.complete_status(), 200);
        let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&line["client"], &line["client_source"]), (&"203.0.113.9".into(), &"proxy".into()));
    }
}

/// A7, G4: a download in flight finishes during a drain
#[tokio::test]
async fn a_download_finishes_while_the_gateway_drains() {
    let (identity, latch) = (Identity::new(), Latch::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let mut gateway: Gateway = identity.gateway_before(&upstream).start().await;
    let mut client = identity.http1(&gateway).await;
    client.send(message("GET", "/b/k", &[], None)).await;
    let mut answer = client.head().await;
    gateway.send_sigterm();
    gateway.wait_for_log_line("draining", |line| line["in_flight"] == 1).await;
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}
