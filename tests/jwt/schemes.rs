//! The `Authorization` scheme in buckets with anonymous access: a bearer is never treated as anonymous.

use serde_json::json;

use super::issuer::{Issuer, encode};
use super::{claims, with_secret};
use crate::support::{Client, Gateway, Response, Upstream};

const API_KEY: &str = "0123456789abcdef-app";

/// The http buckets `tokens` and `keys` with anonymous access, one with tokens and the other with API keys.
async fn gateway(upstream: &Upstream) -> Gateway {
    with_secret(upstream)
        .http_bucket("tokens", upstream)
        .set("buckets.tokens.auth", "jwt,anonymous")
        .http_bucket("keys", upstream)
        .set("buckets.keys.auth", "api_key,anonymous")
        .set("api_keys.app.secret", API_KEY)
        .set("api_keys.app.policy", "apps")
        .set("policies.apps.buckets", "keys")
        .set("policies.apps.methods", "read")
        .start()
        .await
}

/// Sends header lines unchanged.
async fn send_request(gateway: &Gateway, target: &str, lines: &[&str]) -> Response {
    let mut head = format!("GET {target} HTTP/1.1\r\nhost: gateway.test\r\n").into_bytes();
    for line in lines {
        head.extend(line.chars().map(|c| u8::try_from(u32::from(c)).unwrap()));
        head.extend(b"\r\n");
    }
    head.extend(b"\r\n");
    let mut client = Client::connect(gateway.address()).await;
    client.send(head).await;
    client.response("GET").await
}

/// A3, A4, V8: a bearer in any case and with any white space must be valid, or the answer is 401
#[tokio::test]
async fn a_bearer_that_does_not_parse_is_not_anonymous() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for bucket in ["tokens", "keys"] {
        let target = format!("/{bucket}/x");
        for line in [
            "authorization: Bearer\ttoken",
            "authorization: bearer \t token",
            "authorization:\tBEARER\ttoken",
            "authorization: Bearer",
            "authorization: Bearer\t",
            "authorization: Bearer=token",
            "authorization: Bearer:token",
            "authorization: Bearer,token",
            "authorization: Bearer\u{a0}token",
            "authorization: Bearer \u{ff}\u{fe}",
        ] {
            let answer = send_request(&gateway, &target, &[line]).await;
            assert_eq!(answer.complete_status(), 401, "{bucket} {line:?}");
        }
        let twice = ["authorization: Bearer a", "authorization: bearer\tb"];
        assert_eq!(send_request(&gateway, &target, &twice).await.complete_status(), 401, "{bucket}");
        assert_eq!(upstream.count(), 0, "{bucket}: {:?}", upstream.seen());
    }
    let token = Issuer::secret().token(&super::with("buckets", json!(["tokens"])));
    for (target, proof) in [("/tokens/x", token.as_str()), ("/keys/x", API_KEY)] {
        for scheme in ["Bearer\t", "bEARER \t "] {
            let answer = send_request(&gateway, target, &[&format!("authorization: {scheme}{proof}")]).await;
            assert_eq!(answer.complete_status(), 200, "{target} {scheme:?}: {}", answer.text());
            assert_eq!(upstream.last().header("authorization"), None);
        }
        let basic = send_request(&gateway, target, &["authorization: Basic dTpw"]).await;
        assert_eq!(basic.complete_status(), 200, "another scheme is forwarded");
        assert_eq!(upstream.last().header("authorization"), Some("Basic dTpw"));
    }
}

/// A3, V8: a critical member that is `null` counts as critical, and a token header must be UTF-8 as a whole
#[tokio::test]
async fn a_token_with_a_malformed_header_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let issuer = Issuer::secret();
    for header in [
        &br#"{"alg":"HS256","crit":null}"#[..],
        br#"{"alg":"HS256","kid":null}"#,
        b"{\"alg\":\"HS256\",\"x\":\"\xff\"}",
        b"{\"alg\":\"HS256\",\"x\":\"\xc0\xae\"}",
    ] {
        let head = format!("{}.{}", encode(header), encode(claims().to_string()));
        let answer = super::send_with_token(&gateway, "GET", "/b/k", &issuer.sign(&head)).await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (401, "token_malformed"),
            "{:?}",
            header.escape_ascii().to_string()
        );
    }
    assert_eq!(upstream.count(), 0);
    let head = format!("{}.{}", encode(r#"{"alg":"HS256","x":"é"}"#), encode(claims().to_string()));
    assert_eq!(
        super::send_with_token(&gateway, "GET", "/b/k", &issuer.sign(&head)).await.complete_status(),
        200
    );
}
