//! Headers with the client's address, protocol or host, and header aliases that are not forwarded.

use crate::auth::signer::Signer;
use crate::support::{Gateway, SeenRequest, Upstream, gateway, request};

/// Examples of headers that untrusted clients send.
const FORWARDING: [(&str, &str); 14] = [
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-client-cert", "Hash=evil"),
    ("x-real-ip", "10.0.0.1"),
    ("forwarded", "for=10.0.0.1"),
    ("via", "1.1 evil"),
    ("cf-connecting-ip", "10.0.0.1"),
    ("true-client-ip", "10.0.0.1"),
    ("x-client-ip", "10.0.0.1"),
    ("fastly-client-ip", "10.0.0.1"),
    ("x-envoy-external-address", "10.0.0.1"),
    ("x-azure-clientip", "10.0.0.1"),
];
const SET: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via"];

fn both(upstream: &Upstream) -> gateway::Builder {
    Gateway::builder().bucket("b", upstream).http_bucket("api", upstream)
}

async fn upstream_request(
    gateway: &Gateway,
    upstream: &Upstream,
    target: &str,
    headers: &[(&str, &str)],
) -> SeenRequest {
    assert_eq!(
        request(gateway.address(), "GET", target, headers, None).await.complete_status(),
        200,
        "{target}"
    );
    upstream.last()
}

/// V13: by default an untrusted client's forwarding headers are removed; `http` buckets get the gateway's values
/// instead
#[tokio::test]
async fn untrusted_forwarding_headers_are_not_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = both(&upstream).start().await;
    let to_store = upstream_request(&gateway, &upstream, "/b/k", &FORWARDING).await;
    for (name, _) in FORWARDING {
        assert_eq!(to_store.headers_named(name), [""; 0], "{name} in {:?}", to_store.headers);
    }
    let to_api = upstream_request(&gateway, &upstream, "/api/k", &FORWARDING).await;
    for (name, _) in FORWARDING.iter().filter(|(name, _)| !SET.contains(name)) {
        assert_eq!(to_api.headers_named(name), [""; 0], "{name} in {:?}", to_api.headers);
    }
    assert_eq!(
        SET.map(|name| to_api.headers_named(name)),
        [["127.0.0.1"], ["http"], ["gateway.test"], ["1.1 tidegate"]]
    );
}

/// V13: `forwarded` overrides the default of either kind
#[tokio::test]
async fn a_bucket_may_pass_set_or_drop_forwarding_headers() {
    let upstream = Upstream::ok("x");
    let gateway = both(&upstream)
        .set("buckets.b.forwarded", "set")
        .set("buckets.api.forwarded", "drop")
        .bucket("open", &upstream)
        .set("buckets.open.forwarded", "pass")
        .start()
        .await;
    let set = upstream_request(&gateway, &upstream, "/b/k", &FORWARDING).await;
    assert_eq!(
        SET.map(|name| set.headers_named(name)),
        [["127.0.0.1"], ["http"], ["gateway.test"], ["1.1 tidegate"]]
    );
    let dropped = upstream_request(&gateway, &upstream, "/api/k", &FORWARDING).await;
    let passed = upstream_request(&gateway, &upstream, "/open/k", &FORWARDING).await;
    for (name, value) in FORWARDING {
        assert_eq!(dropped.headers_named(name), [""; 0], "{name}");
        assert_eq!(passed.headers_named(name), [value], "{name}");
    }
}

/// V13, L3: a trusted proxy's headers are extended, without the values of its client
#[tokio::test]
async fn a_trusted_proxys_headers_are_extended() {
    let upstream = Upstream::ok("x");
    let gateway = both(&upstream).set("server.trusted_proxies", "127.0.0.0/8,10.0.0.0/8").start().await;
    let proxied = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
        ("x-forwarded-for", "10.0.0.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.test"),
        ("via", "1.1 front"),
        ("x-real-ip", "6.6.6.6"),
    ];
    let to_api = upstream_request(&gateway, &upstream, "/api/k", &proxied).await;
    assert_eq!(
        SET.map(|name| to_api.headers_named(name)),
        [["203.0.113.9, 10.0.0.7, 127.0.0.1"], ["https"], ["api.test"], ["1.1 front, 1.1 tidegate"]]
    );
    assert_eq!(to_api.header("x-real-ip"), None);
    let to_store = upstream_request(&gateway, &upstream, "/b/k", &proxied).await;
    for (name, _) in proxied {
        assert_eq!(to_store.header(name), None, "{name}");
    }
}

/// V13: an upload by POST form carries the same headers as a PUT
#[tokio::test]
async fn a_form_upload_carries_the_same_headers() {
    let upstream = Upstream::ok("");
    let gateway = both(&upstream)
        .set("buckets.b.forwarded", "set")
        .set("server.trusted_proxies", "127.0.0.0/8")
        .start()
        .await;
    let form = "--B\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\nk\r\n\
                --B\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ndata\r\n--B--\r\n";
    let headers = [
        ("content-type", "multipart/form-data; boundary=B"),
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "6.6.6.6"),
    ];
    let answer = request(gateway.address(), "POST", "/b", &headers, Some(form.as_bytes())).await;
    assert_eq!(answer.complete_status(), 204, "{}", answer.text());
    let upstream_request = upstream.last();
    let sent =
        ["x-forwarded-for", "x-forwarded-proto", "via"].map(|name| upstream_request.headers_named(name));
    assert_eq!(sent, [["203.0.113.9, 127.0.0.1"], ["https"], ["1.1 tidegate"]]);
    assert_eq!(upstream_request.header("x-real-ip"), None);
}

/// V13, A1: a signature over such a header verifies, although the header is not forwarded
#[tokio::test]
async fn a_signed_forwarding_header_still_verifies() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("buckets.b.s3.access_key_id", "GATEWAYKEY")
        .set("buckets.b.s3.secret_access_key", "gateway-secret")
        .set("keys.AKIDONE.secret", "client-secret")
        .set("keys.AKIDONE.policy", "all")
        .set("keys.AKIDONE.access_key_id", "AKIDONE")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read")
        .start()
        .await;
    let more = [("x-forwarded-for", "10.0.0.1"), ("x-tidegate-trace", "1"), ("via", "1.1 front")];
    let headers = Signer::new("AKIDONE", "client-secret").headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &more);
    let authorization = headers.iter().find(|(name, _)| name == "authorization").unwrap();
    assert!(authorization.1.contains("x-forwarded-for"), "{authorization:?}");
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let upstream_request = upstream_request(&gateway, &upstream, "/b/k", &headers).await;
    for (name, _) in more {
        assert_eq!(upstream_request.header(name), None, "{name}");
        assert!(
            !upstream_request.header("authorization").unwrap().contains(name),
            "{name} is signed for the store"
        );
    }
}

/// V13, V7: an alias of a header is treated as that header, and overrides of method and target are removed
#[tokio::test]
async fn aliases_and_overrides_are_not_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = both(&upstream)
        .set("buckets.api.http.credentials.one.header", "X-Api-Key")
        .set("buckets.api.http.credentials.one.value", "injected")
        .start()
        .await;
    let ends_here = [
        ("x_api_key", "client"),
        ("X-Api_Key", "client"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x_forwarded-anything", "10.0.0.1"),
        ("X_Real_IP", "10.0.0.1"),
        ("true_client-ip", "10.0.0.1"),
        ("x_request_id", "forged"),
        ("x_request_timeout", "0.001"),
        ("x_tidegate_session", "forged"),
        ("x-tidegate-anything", "forged"),
        ("transfer_encoding", "chunked"),
        ("content_length", "5"),
        ("proxy_authorization", "Basic eA=="),
        ("connection", "x-nominated"),
        ("x_nominated", "1"),
        ("x-http-method-override", "DELETE"),
        ("x_http_method_override", "DELETE"),
        ("X-HTTP-Method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("X-Original-URL", "/admin"),
        ("x_original_url", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("x-rewrite_url", "/admin"),
    ];
    let travels = [("x_custom_header", "kept"), ("x-custom-header", "kept"), ("content_language", "kept")];
    let all: Vec<_> = ends_here.into_iter().chain(travels).collect();
    let upstream_request = upstream_request(&gateway, &upstream, "/api/k", &all).await;
    for (name, value) in ends_here {
        let name = name.to_ascii_lowercase();
        assert!(
            !upstream_request.headers_named(&name).contains(&value),
            "{name}: {:?}",
            upstream_request.headers
        );
    }
    for (name, value) in travels {
        assert_eq!(upstream_request.headers_named(name), [value], "{name}");
    }
    assert_eq!(upstream_request.headers_named("x-api-key"), ["injected"]);
    let plain: Vec<_> =
        upstream_request.headers.iter().filter(|(name, _)| name.replace('_', "-") == "x-api-key").collect();
    assert_eq!(plain.len(), 1, "one credential under any alias: {plain:?}");
}

/// V13: a client's `x-tidegate-*` headers have no effect
#[tokio::test]
async fn the_gateways_own_headers_from_clients_have_no_effect() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("buckets.b.auth", "sigv4").start().await;
    for name in [
        "x-tidegate-session",
        "x-tidegate-reason",
        "x-tidegate-shadow",
        "x-tidegate-client",
        "x-tidegate-key",
    ] {
        let answer = request(gateway.address(), "GET", "/b/k", &[(name, "admin")], None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "not_signed"), "{name}");
    }
    assert_eq!(upstream.count(), 0);
}
