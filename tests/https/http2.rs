//! Requests over HTTP/2: accepted forms, and their answers.

use super::Identity;
use crate::auth::signer::Signer;
use crate::support::client::sha256;
use crate::support::{Upstream, UpstreamReply, random_bytes};

/// A7, V7: bodies are forwarded completely in both directions, and answers have no connection headers of HTTP/1.1
#[tokio::test]
async fn requests_pass_over_http_2() {
    let (identity, body) = (Identity::new(), random_bytes(3 << 20));
    let answer = body.clone();
    let upstream = Upstream::start(move |seen| match seen.method.as_str() {
        "PUT" => UpstreamReply::ok("").header("etag", "\"e\""),
        _ => UpstreamReply::ok(&answer).header("etag", "\"e\""),
    });
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    for _ in 0..3 {
        let answer = client.put("/b/k%2Fa//b", &body).await;
        assert_eq!((answer.complete_status(), answer.header("content-length")), (200, Some("0")));
        let seen = upstream.last();
        assert_eq!((seen.sha256(), seen.target.as_str()), (sha256(&body), "/b/k%2Fa//b"));
        let answer = client.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
        assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(answer.header("etag"), Some("\"e\""));
        for gone in ["connection", "transfer-encoding", "keep-alive"] {
            assert_eq!(answer.header(gone), None);
        }
        assert_eq!(answer.headers_named("date").len(), 1);
    }
    let answer = client.exchange("HEAD", "/b/k", &[], None).await;
    assert_eq!((answer.complete_status(), answer.body.len()), (200, 0));
}

/// A7, E1: refusals have S3's format with their reason, and the connection stays open
#[tokio::test]
async fn a_refusal_keeps_the_connection_open() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("buckets.b.max_request_size", "100B").start().await;
    let client = identity.http2(&gateway).await;
    let body = vec![0; 4000];
    let long = "k".repeat(9000);
    let many = "v".repeat(12_000);
    for (method, target, headers, body, status, reason) in [
        ("GET", "/nowhere/k", &[][..], None, 404, "no_such_bucket"),
        ("TRACE", "/b/k", &[], None, 405, "method"),
        ("PUT", "/b/k", &[], None, 411, "length_required"),
        ("PUT", "/b/k", &[("content-length", "4000")], Some(&body[..]), 413, "body_too_large"),
        ("PUT", "/b/k", &[], Some(&body), 413, "body_too_large"),
        ("GET", "/b/k", &[("host", "elsewhere.test")], None, 400, "host"),
        ("GET", "/b/k", &[("x-a", &many)], None, 431, "headers_too_large"),
        ("GET", &format!("/b/{long}"), &[], None, 414, "uri_too_long"),
        ("GET", "/b/%2e%2e/c", &[], None, 400, "path"),
    ] {
        let answer = client.exchange(method, target, headers, body).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{method} {}", answer.text());
        assert_eq!(client.get("/b/k").await.complete_status(), 200, "after {reason}");
    }
    assert_eq!(
        client.exchange("GET", "/b/k", &[("host", "Gateway.Test")], None).await.complete_status(),
        200
    );
}

/// A7, V2: a body without a length is accepted, like a chunked one
#[tokio::test]
async fn a_body_needs_no_length() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("stored"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let body = random_bytes(1 << 20);
    assert_eq!(client.exchange("PUT", "/b/k", &[], Some(&body)).await.complete_status(), 200);
    assert_eq!(upstream.last().sha256(), sha256(&body));
    assert_eq!(upstream.last().header("transfer-encoding"), Some("chunked"));
}

/// A7, A1: the signed `host` is the `:authority`
#[tokio::test]
async fn the_authority_is_the_signed_host() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity
        .gateway_before(&upstream)
        .set("buckets.b.auth", "sigv4")
        .set("keys.reader.access_key_id", "AKIDREADER")
        .set("keys.reader.secret", "a-secret")
        .set("keys.reader.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,write")
        .start()
        .await;
    let client = identity.http2(&gateway).await;
    let signer = Signer::new("AKIDREADER", "a-secret");
    let signed = signer.headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    let mut headers: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(client.exchange("GET", "/b/k", &headers, None).await.complete_status(), 200);
    assert_eq!(client.get(&signer.presigned("GET", "/b/k", "60")).await.complete_status(), 200);
    headers.push(("host", super::NAME));
    assert_eq!(
        client.exchange("GET", "/b/k", &headers, None).await.complete_status(),
        200,
        "a Host that agrees"
    );
    assert_eq!(client.exchange("GET", "/b/other", &headers, None).await.complete_status(), 403);
    assert_eq!(upstream.count(), 3);
}

/// A7: virtual-hosted buckets are selected by the `:authority`
#[tokio::test]
async fn the_authority_may_name_the_bucket() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity
        .named(crate::support::Gateway::builder().bucket("gateway", &upstream))
        .set("server.base_domains", "test")
        .start()
        .await;
    let client = identity.http2(&gateway).await;
    assert_eq!(client.get("/k").await.complete_status(), 200);
    assert_eq!(upstream.last().target, "/gateway/k");
}

/// A7: split cookies reach an HTTP/1.1 upstream as one header
#[tokio::test]
async fn split_cookies_are_joined() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway =
        identity.named(crate::support::Gateway::builder().http_bucket("b", &upstream)).start().await;
    let client = identity.http2(&gateway).await;
    let headers = [("cookie", "a=1"), ("cookie", "b=2")];
    assert_eq!(client.exchange("GET", "/b/k", &headers, None).await.complete_status(), 200);
    assert_eq!(upstream.last().headers_named("cookie"), ["a=1; b=2"]);
}

/// A7: absolute URLs in documents use the client's own scheme
#[tokio::test]
async fn absolute_urls_are_https() {
    let document = "<CompleteMultipartUploadResult><Location>http://store/real/k</Location>\
                    <Bucket>real</Bucket><Key>k</Key></CompleteMultipartUploadResult>";
    let identity = Identity::new();
    let upstream =
        Upstream::start(move |_| UpstreamReply::ok(document).header("content-type", "application/xml"));
    let gateway = identity.gateway_before(&upstream).set("buckets.b.s3.bucket", "real").start().await;
    let client = identity.http2(&gateway).await;
    let length = [("content-length", "1")];
    let answer = client.exchange("POST", "/b/k?uploadId=1", &length, Some(b"x")).await;
    assert_eq!(answer.complete_status(), 200);
    let text = answer.text();
    assert!(text.contains("<Location>https://gateway.test/b/k</Location>"), "{text}");
    assert!(text.contains("<Bucket>b</Bucket>"), "{text}");
}
