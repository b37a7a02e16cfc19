//! Access to the admin listener: operators and Prometheus are allowed, web pages and strangers are not.

mod limits;
mod malformed;
mod page;
mod sessions;
mod start;
mod tls;
mod tokens;

use crate::support::{Client, Gateway, Response, Upstream, gateway};

/// The tokens of the gateways under test.
const OPERATOR: &str = "operator-0123456789abcdef0123456789";
const READER: &str = "reader-0123456789abcdef0123456789ab";

/// A gateway with bucket `b` and both tokens.
fn with_tokens(upstream: &Upstream) -> gateway::Builder {
    builder(upstream).set("admin.token", OPERATOR).set("admin.read_token", READER)
}

/// The value of `Authorization` for a token.
fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Sends a request with a `Host` of the listener and these headers.
async fn send_own(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let own = gateway.admin_address().to_string();
    let headers: Vec<_> = [("host", own.as_str())].into_iter().chain(headers.iter().copied()).collect();
    send_request(gateway, method, target, &headers).await
}

/// The code in the body of an error.
fn code(answer: &Response) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    body["error"]["code"].as_str().unwrap().to_owned()
}

/// Sends an explicit `Host` beside the client's default one.
fn builder(upstream: &Upstream) -> gateway::Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("admin.hosts", "metrics.test, gateway-a.internal, gateway.test")
}

/// Sends a request with exactly these headers.
async fn send_request(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut client = Client::connect(gateway.admin_address()).await;
    client.send(format!("{head}content-length: 0\r\n\r\n")).await;
    client.response(method).await
}

/// O5: a `Host` that is not the listener's is refused (DNS rebinding), and the refusal names the config key
#[tokio::test]
async fn a_foreign_host_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let own = gateway.admin_address().to_string();
    for host in [
        own.as_str(),
        "127.0.0.1",
        "10.0.0.1:8090",
        "[::1]:8090",
        "localhost",
        "localhost:1",
        "metrics.test:80",
        "GATEWAY-A.internal",
    ] {
        for target in ["/status", "/metrics"] {
            assert_eq!(
                send_request(&gateway, "GET", target, &[("host", host)]).await.complete_status(),
                200,
                "{host}"
            );
        }
    }
    for host in
        ["evil.test", "localhost.evil.test", "metrics.test.evil.test", "127.0.0.1.evil.test", "127.1", ""]
    {
        for target in ["/status", "/metrics", "/nothing"] {
            let answer = send_request(&gateway, "GET", target, &[("host", host)]).await;
            assert_eq!(answer.complete_status(), 403, "{host}");
            assert!(answer.text().contains("admin.hosts"), "{}", answer.text());
            assert!(answer.text().contains("host_not_allowed"), "{}", answer.text());
        }
        for probe in ["/livez", "/readyz"] {
            assert_eq!(
                send_request(&gateway, "GET", probe, &[("host", host)]).await.complete_status(),
                200,
                "{host}"
            );
        }
    }
    let two = [("host", "localhost"), ("host", "evil.test")];
    assert_ne!(send_request(&gateway, "GET", "/status", &two).await.complete_status(), 200);
    assert_eq!(
        send_request(&gateway, "GET", "http://evil.test/status", &[("host", "localhost")])
            .await
            .complete_status(),
        403
    );
}

/// O5: a cross-origin POST has no effect, whatever its headers and body
#[tokio::test]
async fn a_cross_site_post_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).chaos().start().await;
    let own = gateway.admin_address().to_string();
    let (host, origin) = (("host", own.as_str()), format!("http://{own}"));
    for foreign in [
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("sec-fetch-site", "cross-site"),
    ] {
        for target in ["/actors/limiter/crash", "/actors/limiter/stall?ms=1", "/requests/crash"] {
            let answer = send_request(&gateway, "POST", target, &[host, foreign]).await;
            assert_eq!(answer.complete_status(), 403, "{target}, {foreign:?}");
            assert!(answer.text().contains("cross_site"), "{}", answer.text());
        }
    }
    assert_eq!(gateway.generation("limiter").await, 1, "the action was not executed");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "nothing was armed");
    for own in [("origin", origin.as_str()), ("sec-fetch-site", "same-origin"), ("user-agent", "curl/8")] {
        assert_eq!(
            send_request(&gateway, "POST", "/actors/limiter/crash", &[host, own]).await.complete_status(),
            202,
            "{own:?}"
        );
    }
}

/// G1: chaos does not start on an admin address that other machines can reach
#[tokio::test]
async fn chaos_needs_a_loopback_address() {
    for address in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
        let upstream = Upstream::ok("x");
        let ended = builder(&upstream).chaos().set("admin.address", address).run();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(
            ended.stderr.contains("admin.chaos") && ended.stderr.contains("loopback"),
            "{}",
            ended.stderr
        );
    }
    let upstream = Upstream::ok("x");
    builder(&upstream).chaos().set("admin.address", "127.0.0.2").start().await;
}
