//! Health requests of load balancers and platforms, on both listeners.

use std::net::SocketAddr;

use crate::https::{Identity, NAME};
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// Health requests with `PATH` for the path: HAProxy, Kubernetes, AWS, nginx, curl.
const FORMS: [&str; 7] = [
    "GET PATH HTTP/1.1\r\nhost: 10.1.2.3:8080\r\nuser-agent: kube-probe/1.30\r\n\r\n",
    "GET PATH HTTP/1.1\r\nhost: any.name.test\r\nconnection: close\r\n\r\n",
    "GET PATH HTTP/1.1\r\n\r\n",
    "GET PATH HTTP/1.0\r\n\r\n",
    "HEAD PATH HTTP/1.0\r\n\r\n",
    "HEAD PATH HTTP/1.1\r\nhost: a\r\n\r\n",
    "HEAD PATH HTTP/1.1\r\n\r\n",
];
const PLAIN_CHECKS: [&str; 3] = [
    "OPTIONS / HTTP/1.0\r\n\r\n",
    "OPTIONS / HTTP/1.1\r\nhost: any.name.test\r\n\r\n",
    "OPTIONS / HTTP/1.1\r\n\r\n",
];

async fn sent(address: SocketAddr, request: &str) -> (u16, String) {
    let method = request.split(' ').next().unwrap();
    let mut client = Client::connect(address).await;
    client.send(request).await;
    let answer = client.response(method).await;
    (answer.complete_status(), answer.text())
}

/// Every form of health request on this listener gets this status.
async fn probed(address: SocketAddr, paths: &[&str], ready: u16) {
    for path in paths {
        for form in FORMS {
            let request = form.replace("PATH", path);
            let (status, text) = sent(address, &request).await;
            let expected = if path.ends_with("livez") { 200 } else { ready };
            assert_eq!(status, expected, "{request}");
            assert_eq!(text.is_empty(), request.starts_with("HEAD"), "{request}");
        }
    }
    for request in PLAIN_CHECKS {
        assert_eq!(sent(address, request).await.0, ready, "{request}");
    }
}

/// Both listeners answer every form of health request.
async fn assert_on_both_listeners(gateway: &Gateway, ready: u16) {
    probed(gateway.address(), &["/-/livez", "/-/readyz"], ready).await;
    probed(gateway.admin_address(), &["/livez", "/readyz", "/-/livez", "/-/readyz"], ready).await;
}

/// O5: GET and HEAD, HTTP/1.0 and HTTP/1.1, any Host and none, and HAProxy's default check are answered
#[tokio::test]
async fn health_requests_are_answered_in_every_form() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_on_both_listeners(&gateway, 200).await;
    assert_eq!(upstream.count(), 0);
    let lines = gateway.log_lines();
    assert!(lines.iter().all(|line| line["msg"] != "request"), "probes leave no access line: {lines:?}");
}

/// O5: health requests are answered before every limit, with all slots taken
#[tokio::test]
async fn health_requests_bypass_every_limit() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.max_concurrent_requests", "1")
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "1")
        .start()
        .await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(gateway.get("/b/k").await.reason(), "too_many_requests_in_flight");
    assert_on_both_listeners(&gateway, 200).await;
    latch.open_for_all();
}

/// O5, X3: health requests are answered at `exhausted`
#[tokio::test]
async fn health_requests_are_answered_at_exhausted() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).exhaust_at_half_of_descriptors().start().await;
    gateway.exhaust_descriptors();
    wait_for("it is exhausted", || async {
        (gateway.get("/b/k").await.reason() == "exhausted").then_some(())
    })
    .await;
    assert_on_both_listeners(&gateway, 200).await;
}

/// O5, G4: during a drain all forms of the readiness check are 503 and liveness is 200
#[tokio::test]
async fn readiness_is_503_during_a_drain() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(client.head().await.status, 200);
    gateway.send_sigterm();
    wait_for("the gateway drains", || async {
        (gateway.admin("/readyz").await.complete_status() == 503).then_some(())
    })
    .await;
    probed(gateway.admin_address(), &["/livez", "/readyz", "/-/livez", "/-/readyz"], 503).await;
    assert_eq!(gateway.status().await["causes"][0]["code"], "draining");
    latch.open_for_all();
}

/// V3, O5: a preflight and a bucket's OPTIONS are not health requests
#[tokio::test]
async fn other_options_are_not_health_requests() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (request, status) in [
        ("OPTIONS / HTTP/1.1\r\nhost: a\r\norigin: https://page.test\r\n\r\n", 405),
        ("OPTIONS /b/k HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ] {
        assert_eq!(sent(gateway.address(), request).await.0, status, "{request}");
    }
    let foreign = "OPTIONS / HTTP/1.1\r\nhost: evil.test\r\norigin: https://evil.test\r\n\r\n";
    assert_eq!(sent(gateway.admin_address(), foreign).await.0, 403);
}

fn trusting(builder: Builder) -> Builder {
    builder.set("server.proxy_protocol", "true").set("server.trusted_proxies", "127.0.0.0/8")
}

/// O5, L3: a trusted peer without a PROXY header may send health requests, and nothing else
#[tokio::test]
async fn a_peer_without_a_proxy_header_may_check_health() {
    let upstream = Upstream::ok("x");
    let gateway = trusting(Gateway::builder().bucket("b", &upstream)).start().await;
    probed(gateway.address(), &["/-/livez", "/-/readyz"], 200).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send("GET /-/readyz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let answer = client.response("GET").await;
    assert_eq!((answer.complete_status(), answer.reason()), (400, "proxy_header"));
    assert!(client.is_closed().await);
    for request in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "OPTIONS /b/k HTTP/1.1\r\nhost: a\r\n\r\n"] {
        assert_eq!(sent(gateway.address(), request).await.0, 400, "{request}");
    }
    let mut forwarded = Client::connect(gateway.address()).await;
    forwarded.send("PROXY TCP4 203.0.113.9 127.0.0.1 1 80\r\nGET /b/k HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(forwarded.response("GET").await.complete_status(), 200);
    assert_eq!(upstream.count(), 1);
}

/// O5, A7, L3: over TLS, in HTTP/1.1 and HTTP/2, with and without a required PROXY header
#[tokio::test]
async fn health_requests_are_answered_over_tls() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    for is_proxied in [false, true] {
        let builder = identity.gateway_before(&upstream);
        let gateway = if is_proxied { trusting(builder) } else { builder }.start().await;
        for path in ["/-/livez", "/-/readyz"] {
            let http2 = identity.http2(&gateway).await;
            assert_eq!(http2.exchange("GET", path, &[], None).await.complete_status(), 200, "{path}");
            assert_eq!(http2.exchange("HEAD", path, &[], None).await.complete_status(), 200, "{path}");
            let mut http1 = Client::new(identity.connect(&gateway, &["http/1.1"]).await);
            http1.send(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
            assert_eq!(http1.response("GET").await.complete_status(), 200, "{path}");
        }
        let http2 = identity.http2(&gateway).await;
        assert_eq!(http2.exchange("OPTIONS", "/", &[], None).await.complete_status(), 200, "below {NAME}");
        let other = http2.get("/b/k").await;
        let expected = if is_proxied { (400, "proxy_header") } else { (200, "") };
        assert_eq!((other.complete_status(), if is_proxied { other.reason() } else { "" }), expected);
    }
    assert_eq!(upstream.count(), 1);
}
