//! Operations are a closed table: access of keys to requests that stores interpret differently.

use super::{s3_error_code, send, signed_bucket, signer};
use crate::support::{Gateway, Response, Upstream, get, request};

/// Bucket `b` with an API key for each access, one for `all`, and one for everything except `configure`; bucket `r`,
/// publicly readable; and bucket `l`, publicly listable. API keys are used because they sign nothing, so odd queries
/// are sent unchanged.
async fn gateway(upstream: &Upstream) -> Gateway {
    let mut builder = Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.auth", "api_key")
        .bucket("r", upstream)
        .set("buckets.r.anonymous", "read")
        .bucket("l", upstream)
        .set("buckets.l.anonymous", "list");
    for (name, methods) in [
        ("read", "read"),
        ("write", "write"),
        ("delete", "delete"),
        ("list", "list"),
        ("most", "read,write,delete,list"),
        ("all", "read,write,delete,list,configure"),
    ] {
        builder = builder
            .set(&format!("api_keys.{name}.secret"), &secret(name))
            .set(&format!("api_keys.{name}.policy"), name)
            .set(&format!("policies.{name}.buckets"), "b")
            .set(&format!("policies.{name}.methods"), methods);
    }
    builder.start().await
}

fn secret(name: &str) -> String {
    format!("secret-of-the-key-{name}")
}

/// Sends a request with the key of this name.
async fn send_with_key_and_headers(
    gateway: &Gateway,
    (name, method, target): (&str, &str, &str),
    more: &[(&str, &str)],
) -> Response {
    let secret = secret(name);
    let headers = [&[("x-api-key", secret.as_str())], more].concat();
    let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"x");
    request(gateway.address(), method, target, &headers, body).await
}

async fn send_with_key(gateway: &Gateway, name: &str, method: &str, target: &str) -> Response {
    send_with_key_and_headers(gateway, (name, method, target), &[]).await
}

fn denied(answer: &Response) -> (u16, &str) {
    (answer.complete_status(), answer.reason())
}

/// V11: an empty `uploadId` needs more than `write`, because RGW then deletes the object
#[tokio::test]
async fn an_empty_upload_id_needs_more_than_write() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for (method, query) in [
        ("DELETE", "uploadId="),
        ("DELETE", "uploadId"),
        ("DELETE", "upload%49d="),
        ("DELETE", "uploadId=%zz"),
        ("DELETE", "uploadId=7;x=%"),
        ("POST", "uploadId="),
        ("PUT", "partNumber=1&uploadId="),
    ] {
        let target = format!("/b/a?{query}");
        for name in ["write", "delete", "most"] {
            let answer = send_with_key(&gateway, name, method, &target).await;
            assert_eq!(denied(&answer), (403, "policy_denied"), "{name} {method} {target}");
            assert!(answer.text().contains("`uploadId`"), "{}", answer.text());
        }
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(send_with_key(&gateway, "write", "DELETE", "/b/a?uploadId=7").await.complete_status(), 200);
    assert_eq!(
        send_with_key(&gateway, "all", "DELETE", "/b/a?uploadId=").await.complete_status(),
        200,
        "with configure"
    );
    assert_eq!(upstream.last().target, "/b/a?uploadId=");
}

/// V11: a second sub-resource does not turn a write into a read
#[tokio::test]
async fn a_second_sub_resource_does_not_grant_a_write() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for target in
        ["/r/n?select&uploads", "/r/n?uploads&select", "/r/n?select&uploadId=7", "/r/n?%73elect&uploads"]
    {
        let answer = request(gateway.address(), "POST", target, &[], Some(b"x")).await;
        assert_eq!(denied(&answer), (403, "anonymous_denied"), "{target}");
    }
    for query in ["select;uploads", "select&select-type=2;uploads", "select&uploads%3Dx", "select&+uploads"] {
        let answer = request(gateway.address(), "POST", &format!("/r/n?{query}"), &[], Some(b"x")).await;
        assert_eq!(denied(&answer), (403, "anonymous_denied"), "{query}");
    }
    assert_eq!(upstream.count(), 0);
    let select = request(gateway.address(), "POST", "/r/n?select&select-type=2", &[], Some(b"x")).await;
    assert_eq!(select.complete_status(), 200);
}

/// V11, O4: contradicting sub-resources are 400 with their own reason, for every method and every access
#[tokio::test]
async fn contradicting_sub_resources_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let queries = [
        "uploads&select",
        "tagging&uploadId=7",
        "acl&acl",
        "uploadId=&uploadId=7",
        "%61cl&tagging=&prefix=a",
    ];
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
        for query in queries {
            for path in ["/b", "/b/a"] {
                let answer = send_with_key(&gateway, "all", method, &format!("{path}?{query}")).await;
                assert_eq!(denied(&answer), (400, "conflicting_parameters"), "{method} {path}?{query}");
                assert!(method == "HEAD" || s3_error_code(&answer) == "InvalidArgument", "{}", answer.text());
            }
        }
    }
    assert_eq!(upstream.count(), 0);
    let counted = gateway.metric("errors_total{bucket=\"b\",reason=\"conflicting_parameters\"}").await;
    assert_eq!(counted, (5 * queries.len() * 2) as f64);
}

/// V11: an unknown parameter needs `configure`, and the refusal names it; known parameters need only their operation's
/// access
#[tokio::test]
async fn an_unknown_parameter_needs_configure() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for (method, target, parameter) in [
        ("GET", "/b/a?v=3", "`v`"),
        ("GET", "/b/a?uploads", "`uploads`"),
        ("GET", "/b?prefix=a&events=x", "`events`"),
        ("GET", "/b?list-type=2&Prefix=a", "`Prefix`"),
        ("PUT", "/b/a?acl", "configure this"),
        ("PUT", "/b/a?retention", "configure this"),
        ("PUT", "/b/a?uploads", "`uploads`"),
        ("PUT", "/b/a?partNumber=1", "`partNumber`"),
        ("DELETE", "/b/a?delete", "`delete`"),
        ("POST", "/b/a?%3Cx%3E&uploads", "`&lt;x&gt;`"),
    ] {
        let answer = send_with_key(&gateway, "most", method, target).await;
        assert_eq!(denied(&answer), (403, "policy_denied"), "{method} {target}");
        assert!(answer.text().contains(parameter), "{}", answer.text());
    }
    assert_eq!(send_with_key(&gateway, "most", "HEAD", "/b?acl").await.complete_status(), 403);
    let post = send_with_key(&gateway, "most", "POST", "/b/a").await;
    assert_eq!(denied(&post), (403, "policy_denied"), "a form with another key in its fields");
    assert_eq!(upstream.count(), 0);
    assert_eq!(send_with_key(&gateway, "all", "GET", "/b/a?v=3&w;=%zz").await.complete_status(), 200);
    assert_eq!(upstream.last().target, "/b/a?v=3&w;=%zz");
    for (name, method, target) in [
        ("read", "GET", "/b/a?versionId=1&partNumber=2&x-id=GetObject&response-content-type=a%2Fb"),
        ("read", "GET", "/b/a?x-amz-checksum-mode=ENABLED&&"),
        ("read", "GET", "/b/a?tagging"),
        ("write", "PUT", "/b/a?x-id=PutObject&x-amz-sdk-checksum-algorithm=CRC32"),
        ("write", "PUT", "/b/a?append&position=0"),
        ("delete", "DELETE", "/b/a?versionId=1&x-id=DeleteObject"),
        ("list", "GET", "/b?list-type=2&fetch-owner=true&start-after=a&encoding-type=url"),
        ("list", "HEAD", "/b?x-id=HeadBucket"),
    ] {
        assert_eq!(
            send_with_key(&gateway, name, method, target).await.complete_status(),
            200,
            "{name} {method} {target}"
        );
        assert_eq!(upstream.last().target, target);
    }
}

/// V11: the listing parameters of RGW and MinIO are in the table
#[tokio::test]
async fn listings_of_other_stores_are_listings() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let queries = [
        "list-type=2&metadata=true",
        "list-type=2&unsorted=true&metadata=true&delimiter=/",
        "list-type=2&fetch-owner=true&start-after=a&encoding-type=url&max-keys=7",
        "list-type=2&continuation-token=a%2Bb&x-id=ListObjectsV2",
        "allow-unordered=true&marker=a",
        "versions&metadata=true&key-marker=a&version-id-marker=b",
        "versions&objs-container=true&format=json",
        "uploads&max-uploads=1&key-marker=a&upload-id-marker=b",
        "format=json",
    ];
    for query in queries {
        let target = format!("/l?{query}");
        assert_eq!(get(gateway.address(), &target).await.complete_status(), 200, "{query}");
        assert_eq!(upstream.last().target, target);
        let denied = get(gateway.address(), &format!("/l?{query}&policy")).await;
        assert_ne!(denied.complete_status(), 200, "{query}");
    }
    assert_eq!(upstream.count(), queries.len());
}

/// V11: MinIO's endless notification stream is not a listing, whatever listing parameters are beside it
#[tokio::test]
async fn a_notification_stream_is_not_a_listing() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    for query in ["events=s3:*", "events=s3:*&prefix=a&suffix=b", "list-type=2&metadata=true&events="] {
        let anonymous = get(gateway.address(), &format!("/l?{query}")).await;
        assert_eq!(denied(&anonymous), (403, "anonymous_denied"), "{query}");
        let answer = send_with_key(&gateway, "most", "GET", &format!("/b?{query}")).await;
        assert_eq!(denied(&answer), (403, "policy_denied"), "{query}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(send_with_key(&gateway, "all", "GET", "/b?events=s3:*").await.complete_status(), 200);
}

/// V11: grants to others and lock overrides need `configure`, as a header, in a presigned URL or as a form field
#[tokio::test]
async fn privileged_headers_need_configure() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let put = async |key: &str, name: &str, value: &str| {
        send_with_key_and_headers(&gateway, (key, "PUT", "/b/a"), &[(name, value)]).await
    };
    for (name, value) in [
        ("x-amz-acl", "public-read"),
        ("x-amz-acl", "public-read-write"),
        ("x-amz-acl", "authenticated-read"),
        ("x-amz-grant-read", "uri=http://acs.amazonaws.com/groups/global/AllUsers"),
        ("x-amz-grant-full-control", "id=1"),
        ("x-amz-bypass-governance-retention", "true"),
    ] {
        let answer = put("most", name, value).await;
        assert_eq!(denied(&answer), (403, "policy_denied"), "{name}");
        assert!(answer.text().contains(&format!("`{name}`")), "{}", answer.text());
        assert_eq!(put("all", name, value).await.complete_status(), 200, "{name} with configure");
        assert_eq!(upstream.last().header(name), Some(value));
        let hoisted = format!("/b/a?{name}={}", value.replace([':', '/', '='], "-"));
        assert_eq!(denied(&send_with_key(&gateway, "most", "PUT", &hoisted).await), (403, "policy_denied"));
    }
    for value in ["private", "bucket-owner-full-control"] {
        assert_eq!(put("write", "x-amz-acl", value).await.complete_status(), 200, "{value}");
    }
}

/// V11, V7: a header name with `_` is not forwarded: RGW reads `_` as `-`, so an unchecked copy source would reach it
#[tokio::test]
async fn a_header_alias_with_underscores_is_not_forwarded() {
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream).await;
    let aliases = [
        ("x_amz_copy_source", "/other/secret"),
        ("x-amz-copy_source", "/other/secret"),
        ("x_amz_acl", "public-read"),
        ("x-amz-meta-a_b", "kept"),
    ];
    assert_eq!(
        send_with_key_and_headers(&gateway, ("write", "PUT", "/b/a"), &aliases).await.complete_status(),
        200
    );
    let seen = upstream.last();
    for (name, _) in &aliases[..3] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-amz-meta-a_b"), Some("kept"));
}

/// A4, V3: only authenticated clients may set response headers: anonymous requests are forwarded with the bucket's
/// signature
#[tokio::test]
async fn an_anonymous_client_cannot_set_response_headers() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.anonymous", "read")
        .bucket("unsigned", &upstream)
        .set("buckets.unsigned.auth", "anonymous")
        .set("buckets.unsigned.anonymous", "read")
        .bucket("public", &upstream)
        .set("buckets.public.s3.access_key_id", "A")
        .set("buckets.public.s3.secret_access_key", "s")
        .set("buckets.public.auth", "anonymous")
        .set("buckets.public.anonymous", "read")
        .bucket("open", &upstream)
        .set("buckets.open.s3.access_key_id", "A")
        .set("buckets.open.s3.secret_access_key", "s")
        .set("buckets.open.auth", "anonymous")
        .start()
        .await;
    for name in ["response-content-type", "response-expires", "response%2Dcache-control"] {
        let target = format!("/b/k?versionId=1&{name}=text%2Fhtml");
        let answer = get(gateway.address(), &target).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "anonymous_override"), "{target}");
        assert!(answer.text().contains("<Code>InvalidRequest</Code>"), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 0);
    let target = "/b/k?response-content-type=text%2Fhtml";
    let headers = signer().headers("GET", target, "UNSIGNED-PAYLOAD", &[]);
    assert_eq!(send(&gateway, "GET", target, &headers, None).await.complete_status(), 200);
    for (bucket, expected) in [("/unsigned/", 200), ("/public/", 400), ("/open/", 200)] {
        let answer = get(gateway.address(), &target.replace("/b/", bucket)).await;
        assert_eq!(answer.complete_status(), expected, "{bucket}");
    }
}
