//! SigV2 of clients: opt-in, weaker than SigV4, and under the same policies.

mod attacks;
mod coverage;
mod forms;
mod rejections;
mod signer;

use super::signer::Headers;
use super::{GUEST, ID, SECRET, s3_error_code, send, with_key};
use crate::support::{Gateway, Response, Upstream, gateway, get, request};
use signer::Signer;

/// Bucket `b`, which accepts both signatures, bucket `strict`, which accepts SigV4 alone, and one key with all rights.
fn builder(upstream: &Upstream) -> gateway::Builder {
    with_key(Gateway::builder().bucket("b", upstream).bucket("strict", upstream))
        .set("buckets.b.auth", "sigv4,sigv2")
        .set("buckets.strict.auth", "sigv4")
}

/// The same, with a guest who may read, list and delete below `public/` in `b`.
fn with_guest(builder: gateway::Builder) -> gateway::Builder {
    super::with_guest(builder, "public/", "read,list,delete")
}

fn signer() -> Signer {
    Signer::new(ID, SECRET)
}

async fn send_signed(gateway: &Gateway, signer: &Signer, method: &str, target: &str) -> Response {
    let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"x");
    send(gateway, method, target, &signer.headers(method, target, &[]), body).await
}

/// Status, code and reason.
fn status_code_reason(answer: &Response) -> (u16, String, String) {
    (answer.complete_status(), s3_error_code(answer), answer.reason().to_owned())
}

fn expected(status: u16, code: &str, reason: &str) -> (u16, String, String) {
    (status, code.to_owned(), reason.to_owned())
}

/// A8, A2: header and URL are accepted; the request is forwarded with SigV4 and without any SigV2 field
#[tokio::test]
async fn version_2_signatures_are_accepted() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream)
        .set("buckets.b.s3.access_key_id", "upstreams")
        .set("buckets.b.s3.secret_access_key", "own")
        .start()
        .await;
    for (method, target) in [
        ("GET", "/b/a%20b//~c'd"),
        ("HEAD", "/b/k"),
        ("PUT", "/b/k"),
        ("DELETE", "/b/k"),
        ("GET", "/b/k?versionId=7&response-content-disposition=attachment%3B%20filename%3D%22a%26b.txt%22"),
        ("GET", "/b?list-type=2&prefix=a%2F&delimiter=%2F"),
        ("POST", "/b/k?uploads"),
        ("POST", "/b/k?uploads="),
        ("PUT", "/b/k?uploadId=2~a%2Fb%2Bc&partNumber=1"),
        ("GET", "/b?location"),
        ("PUT", "/b?policy"),
        ("GET", "/b/k?tagging&x-id=GetObjectTagging"),
    ] {
        let answer = send_signed(&gateway, &signer(), method, target).await;
        assert_eq!(answer.complete_status(), 200, "{method} {target}: {}", answer.text());
        let seen = upstream.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, target));
        assert!(seen.header("authorization").unwrap().contains("Credential=upstreams/"));
        let url = signer().presigned(method, target, &signer().expires(60), &[]);
        let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"x");
        let answer = request(gateway.address(), method, &url, &[], body).await;
        assert_eq!(answer.complete_status(), 200, "{method} {url}: {}", answer.text());
        assert_eq!(upstream.last().target, target, "the signature is not forwarded");
        let authorization = upstream.last().header("authorization").unwrap().to_owned();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 "), "{authorization}");
    }
}

/// A8: botocore signs a bucket path with a trailing slash that it does not send, and repeats headers in the query
#[tokio::test]
async fn signatures_of_botocore_are_accepted() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let expires = signer().expires(60);
    let signature = signer().signature("GET", "/b/", &expires, &Headers::new()).replace('+', "%2B");
    let url = format!("/b?list-type=2&prefix=a&AWSAccessKeyId={ID}&Signature={signature}&Expires={expires}");
    assert_eq!(get(gateway.address(), &url).await.complete_status(), 200);
    assert_eq!(upstream.last().target, "/b?list-type=2&prefix=a");

    let target = "/b/k?content-type=text%2Fplain&x-amz-acl=private&x-amz-meta-who=me";
    let url = signer().presigned("PUT", target, &expires, &[("content-type", "text/plain")]);
    let put = |headers: &'static [(&'static str, &'static str)]| {
        request(gateway.address(), "PUT", &url, headers, Some(b"x"))
    };
    assert_eq!(put(&[("content-type", "text/plain")]).await.complete_status(), 200);
    assert_eq!(upstream.last().target, "/b/k?x-amz-acl=private&x-amz-meta-who=me");
    assert_eq!(upstream.last().header("content-type"), Some("text/plain"));
    let both =
        put(&[("content-type", "text/plain"), ("x-amz-acl", "private"), ("x-amz-meta-who", "me")]).await;
    assert_eq!(both.complete_status(), 200, "the client must send the headers too");
    for headers in [
        &[][..],
        &[("content-type", "text/html")],
        &[("content-type", "text/plain"), ("x-amz-acl", "public-read")],
        &[("content-type", "text/plain"), ("x-amz-meta-other", "1")],
    ] {
        assert_eq!(put(headers).await.reason(), "signature_mismatch", "{headers:?}");
    }
}

/// A8: SigV2 is refused unless the bucket lists it, also for a key that another bucket accepts it from; the error names
/// the setting
#[tokio::test]
async fn version_2_is_off_by_default() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let url = signer().presigned("GET", "/strict/k", &signer().expires(60), &[]);
    for answer in [
        send_signed(&gateway, &signer(), "GET", "/strict/k").await,
        get(gateway.address(), &url).await,
        get(gateway.address(), "/strict/k?AWSAccessKeyId=a").await,
        get(gateway.address(), "/strict/k?awsaccesskey%49d=a").await,
        forms::post(&gateway, "/strict", &forms::signed(&signer(), &[("key", "k")])).await,
    ] {
        assert_eq!(status_code_reason(&answer), expected(501, "NotImplemented", "signature_not_implemented"));
        assert!(answer.text().contains("add sigv2 to buckets.NAME.auth"), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
    let version_4 = super::send_signed(&gateway, &super::signer(), "GET", "/b/k").await;
    assert_eq!(version_4.complete_status(), 200, "the bucket still accepts SigV4");
}

/// A8: the list of buckets has those that accept SigV2, and is refused if none does
#[tokio::test]
async fn the_bucket_list_has_those_that_accept_version_2() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let list = send_signed(&gateway, &signer(), "GET", "/").await;
    assert_eq!(list.complete_status(), 200);
    assert!(list.text().contains("<Name>b</Name>") && !list.text().contains("strict"), "{}", list.text());
    let wrong = send_signed(&gateway, &Signer::new(ID, "wrong"), "GET", "/").await;
    assert_eq!(status_code_reason(&wrong), expected(403, "SignatureDoesNotMatch", "signature_mismatch"));
    let without = builder(&upstream).set("buckets.b.auth", "sigv4").start().await;
    assert_eq!(send_signed(&without, &signer(), "GET", "/").await.reason(), "signature_not_implemented");
}

/// A8, A5: policies apply as for SigV4
#[tokio::test]
async fn policies_apply_as_for_version_4() {
    let upstream = Upstream::ok("x");
    let gateway = with_guest(builder(&upstream)).start().await;
    let guest = Signer::new("GUEST", GUEST);
    for (method, target, status) in [
        ("GET", "/b/public/k", 200),
        ("DELETE", "/b/public/k", 200),
        ("GET", "/b?list-type=2&prefix=public%2F", 200),
        ("GET", "/b/secret", 403),
        ("GET", "/b/public/../secret", 400),
        ("PUT", "/b/public/k", 403),
        ("GET", "/b?list-type=2", 403),
        ("GET", "/b?list-type=2&prefix=secret", 403),
        ("GET", "/b?policy", 403),
    ] {
        assert_eq!(
            send_signed(&gateway, &guest, method, target).await.complete_status(),
            status,
            "{method} {target}"
        );
        let url = guest.presigned(method, target, &guest.expires(60), &[]);
        let body: Option<&[u8]> = (method == "PUT").then_some(b"x");
        let answer = request(gateway.address(), method, &url, &[], body).await;
        assert_eq!(answer.complete_status(), status, "{method} {url}");
    }
    assert_eq!(upstream.count(), 6);
}

/// A8: for virtual-hosted requests the bucket's name is signed before the path
#[tokio::test]
async fn a_bucket_in_the_host_is_signed_before_the_path() {
    let upstream = Upstream::ok("x");
    // The signer covers `Host: gateway.test`.
    let gateway = builder(&upstream)
        .set("server.base_domains", "test")
        .bucket("gateway", &upstream)
        .set("buckets.gateway.auth", "sigv4,sigv2")
        .start()
        .await;
    let in_host = Signer { bucket: "/gateway", ..signer() };
    for target in ["/k", "/", "/?list-type=2&prefix=a", "/b/k", "/?acl"] {
        assert_eq!(send_signed(&gateway, &in_host, "GET", target).await.complete_status(), 200, "{target}");
        let answer = send_signed(&gateway, &signer(), "GET", target).await;
        assert_eq!(answer.reason(), "signature_mismatch", "{target}");
    }
}

/// A8, O2: the signature parameters of a URL are redacted in the log and not forwarded, whichever signatures a bucket
/// accepts
#[tokio::test]
async fn signature_parameters_are_neither_logged_nor_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).bucket("open", &upstream).start().await;
    for (bucket, status) in [("b", 200), ("strict", 501), ("open", 200)] {
        let id = format!("logged-{bucket}");
        let target = format!("/{bucket}/k?versionId=3&x-amz-meta-a=1");
        let url = signer().presigned("GET", &target, &signer().expires(60), &[]);
        let answer = request(gateway.address(), "GET", &url, &[("x-request-id", &id)], None).await;
        assert_eq!(answer.complete_status(), status, "{bucket}");
        let line = gateway.wait_for_access_line(&id).await;
        let query = line["query"].as_str().unwrap();
        assert!(query.contains("AWSAccessKeyId=redacted&Signature=redacted&Expires="), "{query}");
        assert!(!line.to_string().contains(ID) || bucket == "b", "{line}");
    }
    for seen in upstream.seen() {
        assert!(seen.target.ends_with("/k?versionId=3&x-amz-meta-a=1"), "{}", seen.target);
    }
    let key = "x-amz-server-side-encryption-customer-key=SECRETSECRET";
    let url = signer().presigned("GET", &format!("/b/k?{key}"), &signer().expires(60), &[]);
    request(gateway.address(), "GET", &url, &[("x-request-id", "sse")], None).await;
    assert!(!gateway.wait_for_access_line("sse").await.to_string().contains("SECRETSECRET"));
}

/// A8, I1: a body hash that a client sends is verified, although SigV2 does not require it
#[tokio::test]
async fn an_optional_body_hash_is_verified() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let hash = crate::support::client::sha256(b"data");
    let headers = signer().headers("PUT", "/b/k", &[("x-amz-content-sha256", &hash)]);
    assert_eq!(send(&gateway, "PUT", "/b/k", &headers, Some(b"data")).await.complete_status(), 200);
    let answer = send(&gateway, "PUT", "/b/k", &headers, Some(b"DATA")).await;
    assert_eq!(status_code_reason(&answer), expected(400, "XAmzContentSHA256Mismatch", "sha256_mismatch"));
    let unhashed = signer().headers("PUT", "/b/k", &[]);
    let other = send(&gateway, "PUT", "/b/k", &unhashed, Some(b"any body")).await;
    assert_eq!(other.complete_status(), 200, "without a hash SigV2 does not cover the body");
    let sized = builder(&upstream).set("buckets.b.max_request_size", "8").start().await;
    let large = send(&sized, "PUT", "/b/k", &unhashed, Some(b"123456789")).await;
    assert_eq!(status_code_reason(&large), expected(413, "EntityTooLarge", "body_too_large"));
}
