//! SigV2: unsigned parts of a request have no effect.

use super::{builder, get, request, send, send_signed, signer, status_code_reason};
use crate::support::{Client, Upstream};

/// A8, V11: a sub-resource outside the signature is refused, also for a key with all rights
#[tokio::test]
async fn a_sub_resource_that_is_not_covered_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    for (method, target, name) in [
        ("POST", "/b/k?select&select-type=2", "select"),
        ("GET", "/b/k?retention", "retention"),
        ("PUT", "/b/k?retention", "retention"),
        ("PUT", "/b/k?legal-hold", "legal-hold"),
        ("GET", "/b/k?attributes", "attributes"),
        ("PUT", "/b/k?append&position=0", "append"),
        ("PUT", "/b/k?renameObject", "renameObject"),
        ("GET", "/b?encryption", "encryption"),
        ("PUT", "/b?publicAccessBlock", "publicAccessBlock"),
        ("GET", "/b?events", "events"),
        ("GET", "/b/k?unknown", "unknown"),
        ("GET", "/b/k?%75nknown=1", "unknown"),
        ("GET", "/b/k?prefix=a", "prefix"),
        ("GET", "/b/k?ACL", "ACL"),
        ("PUT", "/b?policy&extension", "extension"),
        ("GET", "/b/k?versionId=1&x;acl", "x;acl"),
    ] {
        let url = signer().presigned(method, target, &signer().expires(60), &[]);
        let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"x");
        for answer in [
            send_signed(&gateway, &signer(), method, target).await,
            request(gateway.address(), method, &url, &[], body).await,
        ] {
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (403, "sigv2_uncovered"),
                "{method} {target}"
            );
            assert!(answer.text().contains(&format!("`{name}`")), "{target}: {}", answer.text());
        }
    }
    assert_eq!(upstream.count(), 0);
}

/// A8: an observer of a URL can add no effective parameter or header to it
#[tokio::test]
async fn nothing_effective_can_be_added_to_a_url() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let url = signer().presigned("GET", "/b/k", &signer().expires(60), &[]);
    for (more, reason) in [
        ("acl", "signature_mismatch"),
        ("versionId=1", "signature_mismatch"),
        ("%61cl", "signature_mismatch"),
        ("object-lock", "signature_mismatch"),
        ("retention", "sigv2_uncovered"),
        ("legal-hold", "sigv2_uncovered"),
        ("extension", "sigv2_uncovered"),
        ("x-amz-a%3Ab=1", "sigv2_uncovered"),
    ] {
        for target in [format!("{url}&{more}"), url.replacen('?', &format!("?{more}&"), 1)] {
            let answer = get(gateway.address(), &target).await;
            assert_eq!((answer.complete_status(), answer.reason()), (403, reason), "{target}");
        }
    }
    let delete = signer().presigned("DELETE", "/b/k", &signer().expires(60), &[]);
    let forced =
        request(gateway.address(), "DELETE", &delete, &[("x-minio-force-delete", "true")], None).await;
    assert_eq!((forced.complete_status(), forced.reason()), (403, "sigv2_uncovered"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(request(gateway.address(), "DELETE", &delete, &[], None).await.complete_status(), 200);
}

/// A8, V11: one uncovered privileged header among covered ones is found at any position in the header map
#[tokio::test]
async fn every_privileged_header_must_be_covered() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let signed = [
        ("x-amz-acl", "public-read"),
        ("x-amz-bypass-governance-retention", "true"),
        ("x-amz-grant-read", "id=1"),
        ("x-amz-grant-write", "id=1"),
    ];
    for sent in [&signed[..], &signed[..1], &signed[1..2], &signed[2..]] {
        let url = signer().presigned("DELETE", "/b/k", &signer().expires(60), sent);
        for name in ["x-minio-force-delete", "x-minio-source-mtime", "x-minio-source-etag"] {
            let more = [sent, &[(name, "true")]].concat();
            let answer = request(gateway.address(), "DELETE", &url, &more, None).await;
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (403, "sigv2_uncovered"),
                "{sent:?} {name}"
            );
            assert!(answer.text().contains(&format!("`{name}`")), "{}", answer.text());
        }
    }
    assert_eq!(upstream.count(), 0);
    let url = signer().presigned("DELETE", "/b/k", &signer().expires(60), &signed);
    assert_eq!(request(gateway.address(), "DELETE", &url, &signed, None).await.complete_status(), 200);
}

/// A8, V12: decoded signed values cannot be split into parameters or joined
#[tokio::test]
async fn values_cannot_be_turned_into_parameters() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let expires = signer().expires(60);
    // A URL for one object version.
    let version = signer().presigned("GET", "/b/k?response-content-type=a&versionId=3", &expires, &[]);
    let merged = version.replacen("a&versionId=3", "a%26versionId%3D3", 1);
    assert_eq!(get(gateway.address(), &merged).await.reason(), "sigv2_malformed");
    // A URL with a file name that resembles a parameter.
    let value = "a%26versionId%3D3";
    let name =
        signer().presigned("GET", &format!("/b/k?response-content-disposition={value}"), &expires, &[]);
    assert_eq!(get(gateway.address(), &name).await.reason(), "sigv2_malformed", "the owner's own is refused");
    let split = name.replacen(value, "a&versionId=3", 1);
    assert_ne!(get(gateway.address(), &split).await.complete_status(), 500);
    let harmless = signer().presigned(
        "GET",
        "/b/k?response-content-disposition=attachment%3B%20filename%3D%22a%26b%3D1.txt%22",
        &expires,
        &[],
    );
    assert_eq!(get(gateway.address(), &harmless).await.complete_status(), 200);
    // A parameter that resembles two headers.
    let two = signer().presigned("GET", "/b/k?x-amz-meta-a=1%0Ax-amz-meta-b:2", &expires, &[]);
    let answer = get(gateway.address(), &two).await;
    assert!(matches!(answer.complete_status(), 400 | 403), "{}", answer.text());
}

/// A8: SigV2 requests with `aws-chunked` bodies or their headers are refused
#[tokio::test]
async fn a_body_in_chunks_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    for more in [
        &[
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ("x-amz-decoded-content-length", "1"),
        ][..],
        &[
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ],
        &[("content-encoding", "aws-chunked")],
        &[("content-encoding", "gzip,aws-chunked")],
        &[("x-amz-decoded-content-length", "1")],
    ] {
        let headers = signer().headers("PUT", "/b/k", more);
        let answer = send(&gateway, "PUT", "/b/k", &headers, Some(b"0\r\n\r\n")).await;
        assert_eq!(
            status_code_reason(&answer),
            super::expected(400, "InvalidRequest", "sigv2_chunks"),
            "{more:?}"
        );
        let url = signer().presigned("PUT", "/b/k", &signer().expires(60), more);
        let answer = request(gateway.address(), "PUT", &url, more, Some(b"0\r\n\r\n")).await;
        assert_eq!(answer.reason(), "sigv2_chunks", "{more:?}");
    }
    assert_eq!(upstream.count(), 0);
}

/// A8: repeated headers are signed joined by commas, in any case of their names
#[tokio::test]
async fn repeated_headers_are_joined() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let more = [("x-amz-meta-b", "2  2"), ("x-amz-meta-a", "fred"), ("x-amz-meta-a", "barney")];
    let headers = signer().headers("PUT", "/b/k", &more);
    let lines: String =
        headers.iter().map(|(name, value)| format!("{}:  {value} \r\n", name.to_ascii_uppercase())).collect();
    let mut client = Client::connect(gateway.address()).await;
    client
        .send(format!("PUT /b/k HTTP/1.1\r\nhost: gateway.test\r\ncontent-length: 1\r\n{lines}\r\nx"))
        .await;
    assert_eq!(client.response("PUT").await.complete_status(), 200);
    assert_eq!(upstream.last().headers_named("x-amz-meta-a"), ["fred", "barney"]);
    let other_order = [("x-amz-meta-b", "2  2"), ("x-amz-meta-a", "barney"), ("x-amz-meta-a", "fred")];
    let mut wrong = headers;
    wrong.retain(|(name, _)| !name.starts_with("x-amz-"));
    wrong.extend(other_order.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    assert_eq!(send(&gateway, "PUT", "/b/k", &wrong, Some(b"x")).await.reason(), "signature_mismatch");
}
