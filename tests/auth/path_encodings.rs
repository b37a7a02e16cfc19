//! Path decoding is unambiguous: no encoding of a segment escapes a policy's prefixes.

use super::{send, signed_bucket, signer};
use crate::support::{Gateway, Upstream, request};

const API_KEY: &str = "0123456789abcdef-app";

/// The http bucket `api` and the s3 bucket `b`: an API key may read and list below `v1/`, and in `b` a key may do
/// everything below `public/`.
async fn gateway(upstream: &Upstream, mode: &str) -> Gateway {
    signed_bucket(upstream)
        .set("buckets.b.auth", "sigv4,api_key")
        .set("buckets.b.injection_patterns", mode)
        .set("policies.all.prefixes", "public/")
        .http_bucket("api", upstream)
        .set("buckets.api.auth", "api_key")
        .set("buckets.api.injection_patterns", mode)
        .set("api_keys.app.secret", API_KEY)
        .set("api_keys.app.policy", "apps")
        .set("policies.apps.buckets", "api,b")
        .set("policies.apps.prefixes", "v1/")
        .set("policies.apps.methods", "read,list")
        .start()
        .await
}

/// V12, A5: segment parameters, overlong UTF-8, escapes and backslashes do not escape a prefix, in every mode of the
/// injection checks
#[tokio::test]
async fn no_encoding_of_a_parent_segment_escapes_a_prefix() {
    let upstream = Upstream::ok("x");
    for mode in ["block", "log", "off"] {
        let gateway = gateway(&upstream, mode).await;
        for rest in [
            "..;/admin",
            "..;jsessionid=1/admin",
            "x/..;/..;a=b/admin",
            "x/%2e%2e;/admin",
            "%2e%2e/admin",
            ".%2e;/admin",
            "..%3b/admin",
            "..%3Bx%2fadmin",
            "%252e%252e;/admin",
            "%c0%ae%c0%ae/admin",
            "%C0%AE.;/admin",
            "%e0%80%ae%e0%80%ae/admin",
            "%25c0%25ae%25c0%25ae/admin",
            "..%c0%afadmin",
            "..%c1%9cadmin",
            "..%5cadmin",
            ".;/admin",
            "x/..;",
        ] {
            let target = format!("/api/v1/{rest}");
            let answer = request(gateway.address(), "GET", &target, &[("x-api-key", API_KEY)], None).await;
            assert!(matches!(answer.complete_status(), 400 | 403), "{mode} {target}: {}", answer.status);
            let target = format!("/b/public/{rest}");
            let headers = signer().headers("GET", &target, "UNSIGNED-PAYLOAD", &[]);
            let answer = send(&gateway, "GET", &target, &headers, None).await;
            assert!(matches!(answer.complete_status(), 400 | 403), "{mode} {target}: {}", answer.status);
        }
        assert_eq!(upstream.count(), 0, "{mode}: {:?}", upstream.seen());
    }
}

/// V12, V5: names that contain the same characters are forwarded byte for byte
#[tokio::test]
async fn names_that_resemble_segments_are_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream, "block").await;
    for rest in ["a;..", "a..;x", "...;/k", ";a", "..name;x", "%c0%af", "%FF%FE", "a;v=1/k", "~;"] {
        for (target, up) in [
            (format!("/api/v1/{rest}"), format!("/v1/{rest}")),
            (format!("/b/public/{rest}"), format!("/b/public/{rest}")),
        ] {
            let mut headers = signer().headers("GET", &target, "UNSIGNED-PAYLOAD", &[]);
            if target.starts_with("/api") {
                headers = vec![("x-api-key".to_owned(), API_KEY.to_owned())];
            }
            let answer = send(&gateway, "GET", &target, &headers, None).await;
            assert_eq!(answer.complete_status(), 200, "{target}: {}", answer.text());
            assert_eq!(upstream.last().target, up);
        }
    }
}

/// V12, A5: a copy source is decoded like a path
#[tokio::test]
async fn no_encoding_of_a_copy_source_escapes_a_prefix() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream, "off").await;
    let copy = async |source: &str| {
        let copied = [("x-amz-copy-source", source)];
        let headers = signer().headers("PUT", "/b/public/k", "UNSIGNED-PAYLOAD", &copied);
        send(&gateway, "PUT", "/b/public/k", &headers, None).await
    };
    for source in [
        "b/public/..;/secret",
        "/b/public/..;a=b/secret",
        "b/public/%2e%2e;/secret",
        "b/public/%252e%252e/secret",
        "b/public/%c0%ae%c0%ae/secret",
        "b/public/..%5csecret",
        "b/public/.;/secret",
        "//b/public/k",
    ] {
        let answer = copy(source).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "copy_source"), "{source}");
    }
    assert_eq!(upstream.count(), 0);
    for (source, up) in
        [("b/public/a;..", "b/public/a%3B.."), ("/b/public/a", "/b/public/a"), ("b/public/a", "b/public/a")]
    {
        assert_eq!(copy(source).await.complete_status(), 200, "{source}");
        assert_eq!(upstream.last().header("x-amz-copy-source"), Some(up));
    }
}

/// V12, A5: a malformed `prefix` pair is refused: a store that drops it would list everything
#[tokio::test]
async fn a_listing_prefix_is_decoded_like_a_path() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream, "off").await;
    // An API key signs nothing, so the query is sent unchanged.
    let list = async |prefix: &str| {
        let target = format!("/b?list-type=2&prefix={prefix}");
        request(gateway.address(), "GET", &target, &[("x-api-key", API_KEY)], None).await
    };
    for prefix in [
        "v1%2Fa;prefix=",
        "v1%2Fa&delimiter=;prefix=x",
        "v1%2F%zz",
        "v1%2F%",
        "v1/a%4",
        "v1%2F..;%2F",
        "v1%2F%c0%ae%c0%ae%2F",
        "v1%2F%252e%252e",
    ] {
        let answer = list(prefix).await;
        assert!(matches!(answer.complete_status(), 400 | 403), "{prefix}: {}", answer.status);
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(list("v1%2Fa%3B..%25").await.complete_status(), 200);
}
