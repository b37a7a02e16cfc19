//! Headers that content delivery networks add to a signed request.

use super::{send, send_signed, signed_bucket, signer};
use crate::support::{Gateway, Upstream, request};

const NAMES: [&str; 4] = ["x-amz-cf-id", "x-amz-apigw-id", "X-Amz-Cf-Id", "X-AMZ-APIGW-ID"];
const VALUE: &str = "5Zx-q_Y==";

/// A1, V7: the two headers may be unsigned in a signed request, with a presigned URL and without authentication; they
/// are not forwarded
#[tokio::test]
async fn cdn_headers_may_be_unsigned_and_are_not_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).bucket("open", &upstream).start().await;
    for name in NAMES {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let body: Option<&[u8]> = (method == "PUT").then_some(b"x");
            let mut headers = signer().headers(method, "/b/k", "UNSIGNED-PAYLOAD", &[]);
            headers.push((name.to_owned(), VALUE.to_owned()));
            let answer = send(&gateway, method, "/b/k", &headers, body).await;
            assert_eq!(answer.complete_status(), 200, "{method} {name}: {}", answer.text());
            let url = signer().presigned(method, "/b/k", "60");
            let answer = request(gateway.address(), method, &url, &[(name, VALUE)], body).await;
            assert_eq!(answer.complete_status(), 200, "{method} {name}: {}", answer.text());
            let open = request(gateway.address(), method, "/open/k", &[(name, VALUE)], body).await;
            assert_eq!(open.complete_status(), 200);
        }
    }
    for seen in upstream.seen() {
        let sent = |part: &str| seen.headers.iter().any(|(_, value)| value.contains(part));
        assert!(!sent(VALUE) && !sent("x-amz-cf-id") && !sent("x-amz-apigw-id"), "{seen:?}");
        assert_eq!((seen.header("x-amz-cf-id"), seen.header("x-amz-apigw-id")), (None, None));
    }
}

/// A1: the headers are verified if they are signed; no other header may be unsigned, even with a similar name
#[tokio::test]
async fn signed_cdn_headers_are_verified_and_no_others_are_exempt() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    let reason = async |headers: &super::Headers| {
        send(&gateway, "GET", "/b/k", headers, None).await.reason().to_owned()
    };
    for name in ["x-amz-cf-id", "x-amz-apigw-id"] {
        let signed = signer().headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[(name, VALUE)]);
        assert_eq!(reason(&signed).await, "");
        let mut changed = signed.clone();
        changed.iter_mut().find(|(each, _)| each == name).unwrap().1 = "another".to_owned();
        assert_eq!(reason(&changed).await, "signature_mismatch");
        let mut twice = signed.clone();
        twice.push((name.to_owned(), "another".to_owned()));
        assert_eq!(reason(&twice).await, "signature_mismatch");
        let mut removed = signed;
        removed.retain(|(each, _)| each != name);
        assert_eq!(reason(&removed).await, "signature_mismatch");
    }
    for name in
        ["x-amz-cf-id2", "x-amz-cf", "x-amz-cf-id-", "x-amz-apigw-ids", "x-amz-meta-cf-id", "x-amz-acl"]
    {
        let mut headers = signer().headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
        headers.push((name.to_owned(), VALUE.to_owned()));
        assert_eq!(reason(&headers).await, "header_not_signed", "{name}");
    }
    assert_eq!(upstream.count(), 2);
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
}

/// V7: an http bucket forwards them, because an API may need them
#[tokio::test]
async fn cdn_headers_are_forwarded_to_an_api() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().http_bucket("api", &upstream).start().await;
    request(gateway.address(), "GET", "/api/k", &[("x-amz-cf-id", VALUE)], None).await.complete_status();
    assert_eq!(upstream.last().header("x-amz-cf-id"), Some(VALUE));
}
