//! Bucket names with tenants and encoded characters: policies and copy sources use one decoded name, in whatever
//! encoding it was signed and sent.

use super::{GUEST, Signer, guest, s3_error_code, send, signed_bucket, signer};
use crate::support::{Gateway, Response, Upstream, UpstreamReply, request};

/// Sections for `acme:*` and for all names without a tenant. The guest may read and write `buckets`, the reader all
/// names without a tenant.
async fn tenant_gateway(upstream: &Upstream, buckets: &str) -> Gateway {
    signed_bucket(upstream)
        .bucket("acme", upstream)
        .set("buckets.acme.pattern", "acme:*")
        .set("buckets.acme.auth", "sigv4")
        .bucket("all", upstream)
        .set("buckets.all.pattern", "*")
        .set("buckets.all.auth", "sigv4")
        .set("keys.guest.access_key_id", "GUEST")
        .set("keys.guest.secret", GUEST)
        .set("keys.guest.policy", "guests")
        .set("policies.guests.buckets", buckets)
        .set("policies.guests.methods", "read,write")
        .start()
        .await
}

/// Sends `target` with the signature of `canonical`, which is the path as S3 encodes it.
async fn send_signed_as(gateway: &Gateway, signer: &Signer, canonical: &str, target: &str) -> Response {
    let headers = signer.headers("GET", canonical, "UNSIGNED-PAYLOAD", &[]);
    send(gateway, "GET", target, &headers, None).await
}

/// A1, V5, V12: a signature verifies with any encoding of the name, the policy uses the decoded name, and the path is
/// forwarded unchanged
#[tokio::test]
async fn every_encoding_of_a_name_is_verified_and_authorised_as_one() {
    let upstream = Upstream::ok("x");
    let gateway = tenant_gateway(&upstream, "acme:photos,cs-a").await;
    for (canonical, targets) in [
        (
            "/acme%3Aphotos/k",
            &["/acme:photos/k", "/acme%3Aphotos/k", "/acme%3aphotos/k", "/%61cme:photos/k"][..],
        ),
        ("/acme%3Aphotos/a%2Bb", &["/acme:photos/a+b", "/acme%3Aphotos/a%2Bb"]),
        ("/cs-a/k", &["/cs-a/k", "/cs%2Da/k", "/%63s-a/k"]),
        ("/cs-a", &["/cs-a", "/cs%2Da"]),
    ] {
        for target in targets {
            let answer = send_signed_as(&gateway, &guest(), canonical, target).await;
            let is_listing = canonical == "/cs-a";
            let expected = if is_listing { (403, "policy_denied") } else { (200, "") };
            assert_eq!((answer.complete_status(), answer.reason()), expected, "{target}: {}", answer.text());
            if !is_listing {
                assert_eq!(upstream.last().target, *target);
            }
        }
    }
    let forged = send_signed_as(&gateway, &guest(), "/acme%3Aother/k", "/acme%3Aphotos/k").await;
    assert_eq!((forged.complete_status(), s3_error_code(&forged).as_str()), (403, "SignatureDoesNotMatch"));
}

/// A5, V12: no encoding of another bucket's name matches the policy, and `*` matches no bucket with a tenant
#[tokio::test]
async fn no_encoding_escapes_a_policy() {
    let upstream = Upstream::ok("x");
    let gateway = tenant_gateway(&upstream, "photos*").await;
    assert_eq!(
        send_signed_as(&gateway, &guest(), "/photos-1/k", "/%70hotos%2D1/k").await.complete_status(),
        200
    );
    let allowed = upstream.count();
    for (canonical, target, status, reason) in [
        ("/secret/k", "/secre%74/k", 403, "policy_denied"),
        ("/acme%3Aphotos/k", "/acme%3Aphotos/k", 403, "policy_denied"),
        ("/photos%2F../k", "/photos%2F../k", 400, "path"),
        ("/photos%2F..%2Fsecret/k", "/photos%2F..%2Fsecret/k", 400, "path"),
        ("/photos%252F..%252Fsecret/k", "/photos%252F..%252Fsecret/k", 400, "path"),
        ("/photos/../secret/k", "/photos%2F..%2Fsecret/k", 400, "path"),
        ("/photos%2Fk/x", "/photos%2Fk/x", 404, "no_such_bucket"),
        ("/photos%253A1/k", "/photos%253A1/k", 404, "no_such_bucket"),
        ("/photos%00/k", "/photos%00/k", 404, "no_such_bucket"),
        ("/photos%C0%BA1/k", "/photos%c0%ba1/k", 404, "no_such_bucket"),
        ("/photos%2A/k", "/photos%2A/k", 404, "no_such_bucket"),
        ("/photos%3A1/k", "/photos:1/k", 404, "no_such_bucket"),
        ("/-photos/k", "/-photos/k", 404, "no_such_bucket"),
        ("/-photos/k", "/%2Dphotos/k", 404, "no_such_bucket"),
        ("/acme%3A-photos/k", "/acme:-photos/k", 404, "no_such_bucket"),
        ("/acme%3A-photos/k", "/acme%3A%2Dphotos/k", 404, "no_such_bucket"),
    ] {
        let answer = send_signed_as(&gateway, &guest(), canonical, target).await;
        assert_eq!((answer.complete_status(), answer.reason()), (status, reason), "{target}");
    }
    // The reader's policy names `*`.
    assert_eq!(send_signed_as(&gateway, &signer(), "/any/k", "/any/k").await.complete_status(), 200);
    let answer = send_signed_as(&gateway, &signer(), "/acme%3Aphotos/k", "/acme:photos/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, "policy_denied"));
    assert_eq!(upstream.count(), allowed + 1);
}

/// A5, V12: a copy source is decoded once for its section and its policy; it is forwarded unchanged if the store uses
/// the same name
#[tokio::test]
async fn a_copy_source_may_have_a_tenant() {
    let upstream = Upstream::start(|_| {
        UpstreamReply::ok("<CopyObjectResult/>").header("content-type", "application/xml")
    });
    let gateway = tenant_gateway(&upstream, "acme:photos,photos").await;
    let copy = async |target: &str, source: &str| {
        let headers = guest().headers("PUT", target, "UNSIGNED-PAYLOAD", &[("x-amz-copy-source", source)]);
        send(&gateway, "PUT", target, &headers, None).await
    };
    for (source, sent) in [
        ("acme:photos/k", "acme:photos/k"),
        ("/acme:photos/k", "/acme:photos/k"),
        ("acme%3Aphotos/k", "acme%3Aphotos/k"),
        ("acme%3aphotos/a%2Fb?versionId=3", "acme%3aphotos/a/b?versionId=3"),
        ("%2Facme%3Aphotos%2Fk", "/acme%3Aphotos/k"),
    ] {
        let answer = copy("/acme%3Aphotos/new", source).await;
        assert_eq!(answer.complete_status(), 200, "{source}: {}", answer.text());
        assert_eq!(upstream.last().headers_named("x-amz-copy-source"), [sent], "{source}");
    }
    assert_eq!(copy("/photos/new", "photos/k").await.complete_status(), 200);
    assert_eq!(upstream.last().headers_named("x-amz-copy-source"), ["photos/k"], "no added slash");
    let before = upstream.count();
    for (target, source) in [
        ("/acme%3Aphotos/new", "acme:secret/k"),
        ("/acme%3Aphotos/new", "acme%3Asecret/k"),
        ("/acme%3Aphotos/new", "/acme:secret/k"),
        ("/acme%3Aphotos/new", "%2Facme%3Asecret%2Fk"),
        ("/acme%3Aphotos/new", "photos/k"),
        ("/acme%3Aphotos/new", ":photos/k"),
        ("/acme%3Aphotos/new", "other:photos/k"),
        ("/acme%3Aphotos/new", "acme%253Aphotos/k"),
        ("/acme%3Aphotos/new", "acme:photos:x/k"),
        ("/acme%3Aphotos/new", "acme:photos%2F..%2Fsecret/k/x"),
        ("/acme%3Aphotos/new", "acme:/photos/k"),
        ("/photos/new", "acme:photos/k"),
        ("/photos/new", "acme%3Aphotos/k"),
        ("/photos/new", "photos%00/k"),
    ] {
        let answer = copy(target, source).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "copy_source"), "{target} {source}");
    }
    assert_eq!(upstream.count(), before);
}

/// A4, A5, V12: a copy source is routed as a read of it would be, also to a narrower section with other rules
#[tokio::test]
async fn a_copy_source_is_routed_as_a_read() {
    let upstream = Upstream::start(|_| {
        UpstreamReply::ok("<CopyObjectResult/>").header("content-type", "application/xml")
    });
    let gateway = Gateway::builder()
        .bucket("open", &upstream)
        .set("buckets.open.pattern", "*")
        .bucket("exact", &upstream)
        .set("buckets.exact.auth", "sigv4")
        .bucket("narrow", &upstream)
        .set("buckets.narrow.pattern", "secret-*")
        .set("buckets.narrow.auth", "sigv4")
        .start()
        .await;
    let copy = async |target: &str, source: &str| {
        request(gateway.address(), "PUT", target, &[("x-amz-copy-source", source)], None).await
    };
    assert_eq!(copy("/pub/k", "other/k").await.complete_status(), 200);
    let before = upstream.count();
    for target in ["/pub/k", "/pub/k?partNumber=1&uploadId=u"] {
        for source in ["exact/k", "/exact/k", "e%78act/k", "secret-1/k", "/secret%2D1/k", "%2Fsecret-1%2Fk"] {
            let answer = copy(target, source).await;
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (403, "copy_source"),
                "{target} {source}"
            );
        }
    }
    assert_eq!(upstream.count(), before);
}
