//! Targets are forwarded byte for byte except the bucket's name.

use crate::support::{Gateway, Upstream, get, request};

/// V5: paths and queries reach the upstream byte for byte
#[tokio::test]
async fn targets_are_forwarded_byte_for_byte() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for target in [
        "/b",
        "/b/",
        "/b//",
        "/b/k",
        "/b//double//slash//",
        "/b/trailing/",
        "/b/a%2Fb",
        "/b/a%2fb",
        "/b/a+b",
        "/b/a%20b",
        "/b/~tilde%7E",
        "/b/%zz",
        "/b/100%",
        "/b/100%25",
        "/b/..name",
        "/b/a..b",
        "/b/...",
        "/b/./k",
        "/b/it's",
        "/b/a;b=c",
        "/b/a:b@c!d$e&f(g)h*i,j",
        "/b/%C3%A9%E2%82%AC",
        "/b/\"quoted\"",
        "/b/{a}|^[b]\\",
        "/b/k?",
        "/b/k?a",
        "/b/k?a=",
        "/b/k?a=1&a=2&&b",
        "/b/k?x=%20+%2B&y=%2f%2F",
        "/b/k?prefix=a/b&delimiter=%0A",
        "/b/k?a=b?c=d",
        "/b/k?uploads",
        "/b?list-type=2&prefix=../x",
    ] {
        let answer = get(gateway.address(), target).await;
        assert_eq!(answer.complete_status(), 200, "{target}: {}", answer.text());
        assert_eq!(upstream.last().target, target);
    }
}

/// V5: with another name at the upstream only the bucket's name changes
#[tokio::test]
async fn a_bucket_may_have_another_name_upstream() {
    let upstream = Upstream::ok("x");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.bucket", "Their.Name").start().await;
    for rest in ["", "/", "/k", "//k//", "/a%2Fb+c~%zz?x=%20+&y", "?list-type=2", "/b/b"] {
        assert_eq!(get(gateway.address(), &format!("/b{rest}")).await.complete_status(), 200, "{rest}");
        assert_eq!(upstream.last().target, format!("/Their.Name{rest}"));
    }
}

/// V5: with a glob every matching bucket keeps its own name; the narrowest pattern wins; others are 404
#[tokio::test]
async fn a_glob_serves_every_name_it_matches() {
    let wide = Upstream::ok("wide");
    let narrow = Upstream::ok("narrow");
    let gateway = Gateway::builder()
        .bucket("wide", &wide)
        .bucket("narrow", &narrow)
        .set("buckets.wide.pattern", "team-*")
        .set("buckets.narrow.pattern", "team-photos-*")
        .start()
        .await;
    for (name, served_by) in
        [("team-a", "wide"), ("team-photos-2026", "narrow"), ("team-", "wide"), ("team-photos", "wide")]
    {
        let answer = get(gateway.address(), &format!("/{name}/k?x=1")).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, served_by), "{name}");
    }
    assert_eq!(wide.seen()[0].target, "/team-a/k?x=1");
    for name in ["wide", "team", "my-team-a", "Team-a"] {
        assert_eq!(get(gateway.address(), &format!("/{name}/k")).await.reason(), "no_such_bucket", "{name}");
    }
}

/// P6: names that clients invent under a glob add no state
#[tokio::test]
async fn invented_names_add_no_state() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("any", &upstream).set("buckets.any.pattern", "*").start().await;
    assert_eq!(get(gateway.address(), "/first/k").await.complete_status(), 200);
    let before = (
        gateway.status().await["buckets"].as_object().unwrap().len(),
        gateway.metrics().await.lines().count(),
    );
    for i in 0..100 {
        assert_eq!(get(gateway.address(), &format!("/invented-{i}/k")).await.complete_status(), 200);
    }
    let after = (
        gateway.status().await["buckets"].as_object().unwrap().len(),
        gateway.metrics().await.lines().count(),
    );
    assert_eq!(before, after);
}

/// G1: a pattern covers names that an environment variable cannot contain
#[tokio::test]
async fn a_pattern_covers_names_that_variables_cannot_contain() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("photos", &upstream)
        .set("buckets.photos.pattern", "My.photos-2026")
        .start()
        .await;
    assert_eq!(get(gateway.address(), "/My.photos-2026/k").await.complete_status(), 200);
    assert_eq!(upstream.last().target, "/My.photos-2026/k");
    assert_eq!(get(gateway.address(), "/photos/k").await.complete_status(), 404);
}

/// V5: an http bucket's name is removed from the path, which is prefixed with its endpoint's path
#[tokio::test]
async fn an_http_buckets_path_is_prefixed() {
    let upstream = Upstream::ok("x");
    let base = format!("http://{}/base/v1", upstream.address());
    let gateway = Gateway::builder()
        .http_bucket("api", &upstream)
        .set("buckets.api.http.endpoints", &base)
        .start()
        .await;
    for (sent, seen) in
        [("/api/x?y=%2F", "/base/v1/x?y=%2F"), ("/api//x/", "/base/v1//x/"), ("/api/", "/base/v1/")]
    {
        assert_eq!(get(gateway.address(), sent).await.complete_status(), 200);
        assert_eq!(upstream.last().target, seen);
    }
}

/// A2, V7: the credential in a presigned URL's query is not forwarded; the rest of the query is unchanged
#[tokio::test]
async fn a_presigned_querys_credential_is_not_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let signed = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261121&X-Amz-Date=20261121T000000Z\
                  &X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=tok&X-Amz-Signature=abc";
    let target = format!("/b/k?versionId=7&{signed}&response-content-type=text%2Fplain");
    assert_eq!(get(gateway.address(), &target).await.complete_status(), 200);
    assert_eq!(upstream.last().target, "/b/k?versionId=7&response-content-type=text%2Fplain");
}

/// A5, A2, V12: a copy source must be in the same bucket, and the forwarded value has the upstream's name. A leading
/// slash is kept only if the client wrote one: a store's policy compares the whole value
#[tokio::test]
async fn a_copy_source_elsewhere_is_refused() {
    let upstream = Upstream::ok("<CopyObjectResult/>");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("other", &upstream)
        .set("buckets.b.s3.bucket", "theirs")
        .start()
        .await;
    let copy = async |source: &str| {
        request(gateway.address(), "PUT", "/b/new", &[("x-amz-copy-source", source)], Some(b"")).await
    };
    for (given, seen) in [
        ("/b/old%20key", "/theirs/old%20key"),
        ("b/old?versionId=3", "theirs/old?versionId=3"),
        ("b%2Fa%20b", "theirs/a%20b"),
        ("%2Fb%2Fa%20b", "/theirs/a%20b"),
    ] {
        assert_eq!(copy(given).await.complete_status(), 200, "{given}");
        assert_eq!(upstream.last().header("x-amz-copy-source"), Some(seen), "{given}");
    }
    let before = upstream.count();
    for elsewhere in ["/other/secret", "other%2Fsecret", "/theirs/k", "no-slash", "/../other/k", ""] {
        let answer = copy(elsewhere).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "copy_source"), "{elsewhere:?}");
    }
    assert_eq!(upstream.count(), before, "a copy from another bucket was forwarded");
}
