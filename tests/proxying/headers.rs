//! Headers: which are forwarded, which are removed, and that none is lost.

use crate::support::{Gateway, Upstream, UpstreamReply, get, request};

/// V7, A2: hop-by-hop headers, headers nominated by Connection, the client's credential and the gateway's own headers
/// are not forwarded
#[tokio::test]
async fn hop_by_hop_and_credential_headers_are_not_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let ends_here = [
        ("connection", "keep-alive, X-Nominated"),
        ("x-nominated", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=CLIENT/…".trim_end_matches('…')),
        ("x-amz-security-token", "client-token"),
        ("x-amz-date", "20261121T000000Z"),
        ("x-tidegate-session", "session-1"),
        ("x-tidegate-reason", "forged"),
    ];
    let answer = request(gateway.address(), "GET", "/b/k", &ends_here, None).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    let seen = upstream.last();
    for (name, value) in ends_here {
        assert!(!seen.headers_named(name).contains(&value), "{name} was forwarded: {:?}", seen.headers);
    }
    for name in [
        "x-nominated",
        "authorization",
        "x-amz-security-token",
        "x-tidegate-session",
        "x-tidegate-reason",
        "te",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

/// V7: all other headers are forwarded, repeated ones in order, byte for byte
#[tokio::test]
async fn all_other_headers_are_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let travels = [
        ("x-repeated", "first"),
        ("range", "bytes=0-9"),
        ("x-repeated", "second"),
        ("if-match", "\"etag\""),
        ("if-none-match", "*"),
        ("x-amz-meta-name", "a  b,c;\"d\""),
        ("accept-encoding", "gzip, br"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
        ("cookie", "a=b"),
        ("x-repeated", "third"),
        ("user-agent", "test/1"),
    ];
    assert_eq!(request(gateway.address(), "GET", "/b/k", &travels, None).await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.headers_named("x-repeated"), ["first", "second", "third"]);
    for (name, value) in travels {
        assert!(seen.headers_named(name).contains(&value), "{name}: {:?}", seen.headers);
    }
    assert_eq!(seen.header("content-length"), None, "a GET without a body gets no length");
    assert_eq!(seen.header("transfer-encoding"), None);
}

/// A2: Host is the upstream's, and without credentials nothing is signed
#[tokio::test]
async fn host_is_the_upstreams() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.headers_named("host"), [upstream.address().to_string()]);
    assert_eq!(seen.header("authorization"), None);
}

/// A2: with credentials the request is signed with the bucket's own, whatever the client sent
#[tokio::test]
async fn with_credentials_the_request_is_signed_with_the_buckets_own() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.access_key_id", "GATEWAYKEY")
        .set("buckets.b.s3.secret_access_key", "gateway-secret")
        .set("buckets.b.s3.region", "eu-test-1")
        .start()
        .await;
    let client =
        [("authorization", "AWS4-HMAC-SHA256 Credential=CLIENTKEY/x"), ("x-amz-date", "20200101T000000Z")];
    assert_eq!(request(gateway.address(), "PUT", "/b/k", &client, Some(b"abc")).await.complete_status(), 200);
    let seen = upstream.last();
    let authorization = seen.header("authorization").expect("signed");
    assert_eq!(seen.headers_named("authorization").len(), 1);
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=GATEWAYKEY/"), "{authorization}");
    assert!(authorization.contains("/eu-test-1/s3/aws4_request, SignedHeaders="), "{authorization}");
    assert!(!seen.headers_named("x-amz-date").contains(&"20200101T000000Z"));
    assert_eq!(seen.header("x-amz-content-sha256"), Some(crate::support::client::sha256(b"abc").as_str()));
    assert!(
        seen.headers
            .iter()
            .all(|(_, value)| !value.contains("gateway-secret") && !value.contains("CLIENTKEY"))
    );
}

/// O1: the request ID is sent upstream and in the answer, the client's as well as a generated one
#[tokio::test]
async fn the_request_id_is_sent_both_ways() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").header("x-request-id", "of-upstream"));
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = request(gateway.address(), "GET", "/b/k", &[("x-request-id", "mine-1.A_b")], None).await;
    assert_eq!(answer.headers_named("x-request-id"), ["mine-1.A_b"]);
    assert_eq!(upstream.last().headers_named("x-request-id"), ["mine-1.A_b"]);
    let answer = get(gateway.address(), "/b/k").await;
    let made = answer.header("x-request-id").unwrap();
    assert_eq!(made.len(), 16);
    assert_eq!(upstream.last().header("x-request-id"), Some(made));
}

/// V7, I2: an answer's headers are forwarded unchanged except hop-by-hop ones
#[tokio::test]
async fn an_answers_headers_are_forwarded() {
    let upstream = Upstream::start(|_| {
        UpstreamReply::ok("x")
            .header("ETag", "\"d41d8\"")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2")
            .header("x-amz-meta-a", "value")
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("Content-Encoding", "gzip")
            .header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
            .header("Connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Authenticate", "Basic")
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = get(gateway.address(), "/b/k").await;
    assert_eq!(
        (answer.complete_status(), answer.body.as_slice()),
        (200, b"x".as_slice()),
        "nothing is decompressed"
    );
    assert_eq!(answer.headers_named("set-cookie"), ["a=1", "b=2"]);
    for (name, value) in [
        ("etag", "\"d41d8\""),
        ("x-amz-meta-a", "value"),
        ("content-type", "text/plain; charset=utf-8"),
        ("content-encoding", "gzip"),
        ("last-modified", "Sat, 21 Nov 2026 00:00:00 GMT"),
    ] {
        assert_eq!(answer.headers_named(name), [value], "{name}");
    }
    for name in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}
