//! CORS: preflights, and the headers of answers to cross-origin requests.

use crate::support::{Gateway, Response, Upstream, UpstreamReply, request};

const APP: &str = "https://app.example.com";

async fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.cors.allowed_origins", "https://app.example.com,http://localhost:3000")
        .set("buckets.b.cors.allowed_methods", "GET,PUT")
        .set("buckets.b.cors.allowed_headers", "X-Amz-Date,content-type")
        .set("buckets.b.cors.exposed_headers", "ETag,x-amz-version-id")
        .set("buckets.b.cors.max_age_seconds", "123")
        .set("buckets.b.cors.allow_credentials", "true")
        .start()
        .await
}

async fn preflight(gateway: &Gateway, target: &str, origin: &str, method: &str, headers: &str) -> Response {
    let asked = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", headers),
    ];
    request(gateway.address(), "OPTIONS", target, &asked, None).await
}

fn cors_headers(answer: &Response) -> Vec<(&str, &str)> {
    let cors = answer.headers.iter().filter(|(name, _)| name.starts_with("access-control-"));
    let mut cors: Vec<_> = cors.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    cors.sort_unstable();
    cors
}

/// A6: an allowed preflight is answered by the gateway, without a call upstream and without credentials
#[tokio::test]
async fn an_allowed_preflight_is_answered_by_the_gateway() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for target in ["/b/k", "/b", "/b/a%20b?partNumber=1"] {
        let answer = preflight(&gateway, target, APP, "PUT", "x-amz-date, Content-Type").await;
        assert_eq!((answer.complete_status(), answer.body.len()), (200, 0), "{target}");
        assert_eq!(
            cors_headers(&answer),
            [
                ("access-control-allow-credentials", "true"),
                ("access-control-allow-headers", "x-amz-date, content-type"),
                ("access-control-allow-methods", "GET, PUT"),
                ("access-control-allow-origin", APP),
                ("access-control-max-age", "123"),
            ]
        );
        assert_eq!(answer.headers_named("vary"), ["Origin"]);
    }
    assert_eq!(upstream.count(), 0);
}

/// A6: a closed bucket still answers preflights, which carry no authentication
#[tokio::test]
async fn a_preflight_needs_no_authentication_and_no_upstream() {
    let gateway = Gateway::builder()
        .set("buckets.closed.s3.endpoints", "http://127.0.0.1:1")
        .set("buckets.closed.cors.allowed_origins", "*")
        .set("buckets.closed.cors.allowed_headers", "*")
        .start()
        .await;
    let answer =
        preflight(&gateway, "/closed/k", "https://anywhere.test", "GET", "authorization,x-whatever").await;
    assert_eq!(answer.complete_status(), 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization, x-whatever"));
    let refused =
        request(gateway.address(), "GET", "/closed/k", &[("origin", "https://anywhere.test")], None).await;
    assert_eq!((refused.complete_status(), refused.reason()), (403, "bucket_closed"));
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "a script may read the reason");
}

/// A6: origins are compared exactly; a disallowed preflight is 403 with S3's message, and an invalid one 400
#[tokio::test]
async fn disallowed_preflights_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for (origin, method, headers) in [
        ("https://app.example.com.evil.test", "GET", ""),
        ("https://evil-app.example.com", "GET", ""),
        ("http://app.example.com", "GET", ""),
        ("https://app.example.com:8443", "GET", ""),
        ("https://app.example.com/", "GET", ""),
        ("https://APP.example.com", "GET", ""),
        ("null", "GET", ""),
        ("*", "GET", ""),
        (APP, "DELETE", ""),
        (APP, "get", ""),
        (APP, "GET", "x-other"),
        (APP, "GET", "content-type, x other"),
    ] {
        let answer = preflight(&gateway, "/b/k", origin, method, headers).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "cors"), "{origin} {method} {headers}");
        assert!(answer.text().contains("<Code>AccessForbidden</Code>"), "{}", answer.text());
        assert_eq!(answer.headers_named("vary"), ["Origin"]);
        if origin != APP {
            assert_eq!(cors_headers(&answer), [], "{origin}");
        }
    }
    for headers in [
        &[("access-control-request-method", "GET")][..],
        &[("origin", APP)],
        &[("origin", APP), ("origin", APP), ("access-control-request-method", "GET")],
    ] {
        let answer = request(gateway.address(), "OPTIONS", "/b/k", headers, None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "preflight"), "{headers:?}");
        assert!(answer.text().contains("<Code>BadRequest</Code>"), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 0);
}

/// A6: an answer names the allowed origin, and the upstream's CORS headers are replaced
#[tokio::test]
async fn answers_name_the_allowed_origin() {
    let upstream = Upstream::start(|_| {
        UpstreamReply::ok("x")
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-credentials", "true")
            .header("Access-Control-Expose-Headers", "x-theirs")
            .header("vary", "accept-encoding")
            .header("etag", "\"e\"")
    });
    let gateway = gateway(&upstream).await;
    let get = async |headers: &[(&str, &str)]| request(gateway.address(), "GET", "/b/k", headers, None).await;
    let allowed = get(&[("origin", APP)]).await;
    assert_eq!((allowed.complete_status(), allowed.header("etag")), (200, Some("\"e\"")));
    assert_eq!(
        cors_headers(&allowed),
        [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-origin", APP),
            ("access-control-expose-headers", "etag, x-amz-version-id"),
        ]
    );
    assert_eq!(allowed.headers_named("vary"), ["accept-encoding", "Origin"]);
    for headers in
        [&[][..], &[("origin", "https://evil.test")], &[("origin", APP), ("origin", "https://evil.test")]]
    {
        let answer = get(headers).await;
        assert_eq!(
            (answer.complete_status(), answer.text().as_str()),
            (200, "x"),
            "the browser hides it from the page"
        );
        assert_eq!(cors_headers(&answer), [], "{headers:?}");
        assert_eq!(answer.headers_named("vary"), ["accept-encoding", "Origin"], "{headers:?}");
    }
    let deleted = request(gateway.address(), "DELETE", "/b/k", &[("origin", APP)], None).await;
    assert_eq!(
        (deleted.complete_status(), cors_headers(&deleted)),
        (200, vec![]),
        "a method that pages may not use"
    );
}

/// A6, E1: the gateway's own errors have CORS headers too
#[tokio::test]
async fn the_gateways_errors_have_cors_headers() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let put = "PUT /b/k HTTP/1.1\r\nhost: a\r\norigin: https://app.example.com\r\nexpect: 100-continue\r\n\
               content-length: 999999999999\r\n\r\n";
    let mut client = crate::support::Client::connect(gateway.address()).await;
    client.send(put).await;
    let early = client.response("PUT").await;
    let late = request(gateway.address(), "GET", "/b/a/../k", &[("origin", APP)], None).await;
    for (answer, status) in [(early, 413), (late, 400)] {
        assert_eq!(answer.complete_status(), status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
        assert_eq!(answer.headers_named("vary"), ["Origin"]);
    }
}

/// A6, Bad input: any origin together with credentials is a start-up error
#[test]
fn any_origin_with_credentials_is_a_start_up_error() {
    let ended = Gateway::builder()
        .set("buckets.b.s3.endpoints", "http://127.0.0.1:1")
        .set("buckets.b.cors.allowed_origins", "*")
        .set("buckets.b.cors.allow_credentials", "true")
        .run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("buckets.b.cors.allowed_origins: cannot be \"*\""), "{ended:?}");
}
