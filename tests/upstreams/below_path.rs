//! Stores below a path, as `https://host/storage/v1/s3`.

use crate::auth::signer::Signer;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, gateway, get, head, put, request};

const PATH: &str = "/storage/v1/s3";

fn below(upstream: &Upstream) -> gateway::Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.endpoints", &format!("http://{}{PATH}/", upstream.address()))
        .set("buckets.b.s3.access_key_id", "upstreams")
        .set("buckets.b.s3.secret_access_key", "own")
}

/// V5, A2: the endpoint's path is prefixed to the client's, byte for byte, and the signature covers both
#[tokio::test]
async fn the_path_is_sent_and_signed() {
    let upstream = Upstream::ok("x");
    let signer = Signer::new("upstreams", "own");
    let gateway = below(&upstream).set("server.base_domains", "s3.test").start().await;
    for target in ["/b", "/b/", "/b/k", "/b//a%2Fb/", "/b?list-type=2&prefix=a%2F", "/b/k?uploads="] {
        assert_eq!(get(gateway.address(), target).await.complete_status(), 200, "{target}");
        let seen = upstream.last();
        assert_eq!(seen.target, format!("{PATH}{target}"));
        let canonical = seen.target.replace("%2Fb", "/b");
        assert!(signer.has_signed(&seen, &canonical), "{target}");
        assert!(!signer.has_signed(&seen, target), "without the path it is another signature");
    }
    let mut client = Client::connect(gateway.address()).await;
    client.send("GET /k HTTP/1.1\r\nhost: b.s3.test\r\n\r\n").await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
    assert_eq!(upstream.last().target, format!("{PATH}/b/k"));
    for size in [10, 300_000] {
        assert_eq!(put(gateway.address(), "/b/k", vec![b'x'; size]).await.complete_status(), 200);
        assert!(signer.has_signed(&upstream.last(), &format!("{PATH}/b/k")), "{size} bytes");
    }
    let copied =
        request(gateway.address(), "PUT", "/b/new", &[("x-amz-copy-source", "b/k")], Some(b"")).await;
    assert_eq!(copied.complete_status(), 200);
    assert_eq!(upstream.last().header("x-amz-copy-source"), Some("b/k"), "a copy's source has no path");
}

/// V5, E2: clients get paths without the endpoint's, whether or not the store repeats it, and their own name of the
/// bucket
#[tokio::test]
async fn answers_do_not_have_the_endpoints_path() {
    for theirs in [None, Some("acme:theirs")] {
        for repeated in [PATH, ""] {
            // Like Ceph, the store omits the tenant in a bucket's name.
            let name = theirs.map_or("b", |_| "theirs");
            let upstream = Upstream::start(move |seen| {
                let xml = |reply: UpstreamReply| reply.header("content-type", "application/xml");
                let end = "<CompleteMultipartUploadResult><Location>http://store.internal/storage/v1/s3/x/k</Location>\
                           </CompleteMultipartUploadResult>";
                match (seen.method.as_str(), seen.target.rsplit('/').next().unwrap()) {
                    ("PUT", _) => UpstreamReply::ok("").header("location", &format!("{repeated}/{name}")),
                    (_, "k?uploadId=1") => xml(UpstreamReply::ok(end)),
                    (_, "missing") => xml(UpstreamReply::new(
                        404,
                        format!(
                            "<Error><Code>NoSuchKey</Code><BucketName>{name}</BucketName><Resource>{repeated}/{name}/missing</Resource></Error>"
                        ),
                    )),
                    _ => xml(UpstreamReply::ok(format!(
                        "<ListBucketResult><Name>{name}</Name></ListBucketResult>"
                    ))),
                }
            });
            let mut builder = below(&upstream);
            if let Some(theirs) = theirs {
                builder = builder.set("buckets.b.s3.bucket", theirs);
            }
            let gateway = builder.start().await;
            assert_eq!(put(gateway.address(), "/b", "").await.header("location"), Some("/b"));
            let missing = gateway.get("/b/missing").await;
            let expected = "<Error><Code>NoSuchKey</Code><BucketName>b</BucketName><Resource>/b/missing</Resource></Error>";
            assert_eq!(
                (missing.complete_status(), missing.text().as_str()),
                (404, expected),
                "{theirs:?} {repeated:?}"
            );
            let listing = "<ListBucketResult><Name>b</Name></ListBucketResult>";
            assert_eq!(gateway.get("/b?list-type=2").await.text(), listing);
            assert_eq!(head(gateway.address(), "/b/missing").await.complete_status(), 404);
            let done = request(gateway.address(), "POST", "/b/k?uploadId=1", &[], Some(b"x")).await;
            assert!(done.text().contains("<Location>http://gateway.test/b/k</Location>"), "{}", done.text());
        }
    }
}

/// H4: such a store's redirect is refused like any other
#[tokio::test]
async fn a_redirect_is_not_forwarded() {
    let upstream =
        Upstream::start(|_| UpstreamReply::new(307, "").header("location", "/storage/v1/s3/b/elsewhere"));
    let gateway = below(&upstream).start().await;
    let answer = gateway.get("/b/k").await;
    assert_eq!(
        (answer.complete_status(), answer.reason(), answer.header("location")),
        (307, "upstream_redirect", None)
    );
}

/// C3, P5: the gateway's own requests: a credential check is sent below the path, a health check to its own path
#[tokio::test]
async fn own_requests_use_the_path() {
    let upstream = Upstream::start(|seen| match seen.method.as_str() {
        "PUT" => UpstreamReply::s3_error(403, "InvalidAccessKeyId"),
        _ => UpstreamReply::ok("<ListBucketResult/>"),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.endpoints", &format!("http://{}{PATH}", upstream.address()))
        .set("buckets.b.s3.credentials.one.access_key_id", "ONE")
        .set("buckets.b.s3.credentials.one.secret_access_key", "one")
        .set("buckets.b.s3.health_check.path", "/health")
        .start()
        .await;
    put(gateway.address(), "/b/k", "x").await;
    let asked =
        |target: &str| upstream.seen().into_iter().find(|seen| seen.method == "GET" && seen.target == target);
    let listing = format!("{PATH}/b?list-type=2&max-keys=1");
    crate::support::wait_until("the credential is checked", || asked(&listing).is_some()).await;
    let seen = asked(&listing).unwrap();
    assert!(Signer::new("ONE", "one").has_signed(&seen, &listing), "{seen:?}");
    crate::support::wait_until("the endpoint is checked", || asked("/health").is_some()).await;
}
