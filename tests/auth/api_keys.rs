//! API keys: secrets that clients send unchanged in a header.

use serde_json::json;

use crate::support::{Gateway, Response, Scratch, Upstream, gateway, get, request};

const SECRET: &str = "0123456789abcdef-app";

/// The http bucket `api` and the s3 bucket `b`, for API keys; one key may read and write below `v1/`.
fn buckets(upstream: &Upstream) -> gateway::Builder {
    Gateway::builder()
        .http_bucket("api", upstream)
        .set("buckets.api.auth", "api_key")
        .bucket("b", upstream)
        .set("buckets.b.auth", "sigv4,api_key")
        .set("api_keys.app.secret", SECRET)
        .set("api_keys.app.policy", "apps")
        .set("policies.apps.buckets", "*")
        .set("policies.apps.prefixes", "v1/")
        .set("policies.apps.methods", "read,write")
}

async fn send_request(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let body: Option<&[u8]> = (method == "POST").then_some(b"x");
    request(gateway.address(), method, target, headers, body).await
}

/// A4, A5: an API key in either header gets its policy; the key is not forwarded, and the log has only its name
#[tokio::test]
async fn an_api_key_grants_its_policy() {
    let upstream = Upstream::ok("x");
    let gateway = buckets(&upstream).start().await;
    let bearer = format!("bearer {SECRET}");
    for headers in [[("x-api-key", SECRET)], [("authorization", bearer.as_str())]] {
        for (method, target) in [("GET", "/api/v1/x"), ("POST", "/api/v1/x"), ("GET", "/b/v1/x")] {
            assert_eq!(
                send_request(&gateway, method, target, &headers).await.complete_status(),
                200,
                "{method} {target}"
            );
            let seen = upstream.last();
            assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (None, None));
        }
        for (method, target) in [("GET", "/api/v2"), ("DELETE", "/api/v1/x"), ("GET", "/b/x")] {
            let answer = send_request(&gateway, method, target, &headers).await;
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (403, "policy_denied"),
                "{method} {target}"
            );
        }
    }
    assert_eq!(upstream.count(), 6);
    let line = gateway.wait_for_log_line("request", |line| line["key"] == "app").await;
    assert_eq!(line["status"], 200);
    assert!(gateway.log_lines().iter().all(|line| !line.to_string().contains(SECRET)));
}

/// A4, V8: a wrong key, no key, two keys or a key of another kind gets 401 with its challenge; nothing is sent upstream
#[tokio::test]
async fn a_wrong_api_key_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = buckets(&upstream)
        .set("keys.reader.access_key_id", "AKIDREADER")
        .set("keys.reader.secret", "reader-secret-of-some-length")
        .set("keys.reader.policy", "apps")
        .start()
        .await;
    let bare = get(gateway.address(), "/api/v1/x").await;
    assert_eq!(
        (bare.complete_status(), bare.reason(), bare.header("www-authenticate")),
        (401, "unproven", Some("Bearer"))
    );
    let longer = format!("{SECRET}x");
    for wrong in
        ["", "app", &SECRET[1..], &longer, "AKIDREADER", "reader-secret-of-some-length", "é", "'; DROP"]
    {
        let bearer = format!("Bearer {wrong}");
        for header in [("x-api-key", wrong), ("authorization", bearer.as_str())] {
            let answer = send_request(&gateway, "GET", "/api/v1/x", &[header]).await;
            assert_eq!((answer.complete_status(), answer.reason()), (401, "api_key_unknown"), "{header:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        }
    }
    let twice =
        send_request(&gateway, "GET", "/api/v1/x", &[("x-api-key", SECRET), ("x-api-key", SECRET)]).await;
    assert_eq!((twice.complete_status(), twice.reason()), (401, "api_key_unknown"));
    let signer = super::Signer::new("AKIDREADER", "reader-secret-of-some-length");
    assert_eq!(
        super::send_signed(&gateway, &signer, "GET", "/b/v1/x").await.complete_status(),
        200,
        "a signature still is one"
    );
    let forged = super::Signer::new("app", SECRET);
    assert_eq!(super::send_signed(&gateway, &forged, "GET", "/b/v1/x").await.reason(), "unknown_key");
    assert_eq!(upstream.count(), 1);
}

/// A4, L1: API keys and signing keys have separate budgets, one for each key
#[tokio::test]
async fn each_api_key_has_its_own_budget() {
    let upstream = Upstream::ok("x");
    let gateway = buckets(&upstream)
        .set("api_keys.other.secret", "0123456789abcdef-other")
        .set("api_keys.other.policy", "apps")
        .set("keys.reader.secret", "reader-secret")
        .set("keys.reader.policy", "apps")
        .set("rate_limit.per_key.requests_per_second", "0.01")
        .set("rate_limit.per_key.burst", "2")
        .start()
        .await;
    for secret in [SECRET, "0123456789abcdef-other"] {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(
                send_request(&gateway, "GET", "/api/v1/x", &[("x-api-key", secret)]).await.complete_status(),
            );
        }
        assert_eq!(statuses, [200, 200, 429], "{secret}");
    }
}

/// A4: a bucket that accepts both takes an API key or a token after `Bearer`
#[tokio::test]
async fn bearer_accepts_an_api_key_or_a_token() {
    let upstream = Upstream::ok("x");
    let gateway = buckets(&upstream)
        .set("buckets.api.auth", "api_key,jwt")
        .set("jwt.issuer", "me")
        .set("jwt.audience", "us")
        .set("jwt.secret", "a-secret-that-has-thirty-two-characters")
        .start()
        .await;
    let bearer = format!("Bearer {SECRET}");
    assert_eq!(
        send_request(&gateway, "GET", "/api/v1/x", &[("authorization", &bearer)]).await.complete_status(),
        200
    );
    let neither = send_request(&gateway, "GET", "/api/v1/x", &[("authorization", "Bearer a.b.c")]).await;
    assert_eq!((neither.complete_status(), neither.reason()), (401, "token_malformed"));
    let token_as_key = send_request(&gateway, "GET", "/api/v1/x", &[("x-api-key", "a.b.c")]).await;
    assert_eq!(token_as_key.reason(), "api_key_unknown");
}

/// A4, C5: an unusable API key is a start-up error without a secret in the line; the absence of keys is logged at the
/// start
#[tokio::test]
async fn unusable_api_keys_are_start_up_errors() {
    let upstream = Upstream::ok("x");
    let directory = Scratch::new();
    let open = directory.path().join("open");
    std::fs::write(&open, format!("{SECRET}\n")).unwrap();
    for (settings, expected) in [
        (&[("api_keys.app.secret", "short")][..], "api_keys.app.secret: is shorter than 16 characters"),
        (&[("api_keys.app.policy", "app")], "api_keys.app.policy: policies.\"app\""),
        (
            &[("api_keys.b.secret", SECRET), ("api_keys.b.policy", "apps")],
            "api_keys.b: has the same secret as api_keys.app",
        ),
        (&[("api_keys.b.policy", "apps")], "api_keys.b.secret: a key needs a secret"),
        (&[("api_keys.b.secret_file", open.to_str().unwrap())], "can be read by other users"),
    ] {
        let ended =
            settings.iter().fold(buckets(&upstream), |builder, (key, value)| builder.set(key, value)).run();
        assert_eq!(ended.code, Some(78), "{settings:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
        assert!(!ended.stderr.contains(SECRET), "no secret is repeated: {}", ended.stderr);
    }
    let none =
        Gateway::builder().http_bucket("api", &upstream).set("buckets.api.auth", "api_key").start().await;
    let line =
        none.wait_for_log_line("configuration warning", |line| line["key"] == "buckets.api.auth").await;
    let detail = "lists only api_key, and no API key is defined: the bucket refuses every request";
    assert_eq!(line["detail"], json!(detail));
    let answer = send_request(&none, "GET", "/api/x", &[("x-api-key", SECRET)]).await;
    assert_eq!(answer.complete_status(), 401);
}
