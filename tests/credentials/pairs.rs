//! Several key pairs for one store.

use super::{assert_none_exposed, credential, state};
use crate::auth::signer::Signer;
use crate::support::{Gateway, Scratch, Upstream, UpstreamReply, request, wait_for};

/// A bucket `b` with the pairs `one`, of key A, and `two`, of key B.
async fn two_pairs(upstream: &Upstream) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.credentials.one.access_key_id", "A")
        .set("buckets.b.s3.credentials.one.secret_access_key", "s")
        .set("buckets.b.s3.credentials.two.access_key_id", "B")
        .set("buckets.b.s3.credentials.two.secret_access_key", "t")
        .start()
        .await
}

/// C3, A2: if a store that verifies signatures accepts one of two pairs, all requests are served and the other pair is
/// ejected
#[tokio::test]
async fn a_revoked_pair_is_replaced_by_the_other() {
    let directory = Scratch::new();
    let origin = tidegate::origin::start(directory.path(), "real").unwrap();
    let gateway = Gateway::builder()
        .bucket_at("b", &[origin.address])
        .set("buckets.b.s3.bucket", "real")
        .set("buckets.b.s3.credentials.gone.access_key_id", "WITHDRAWNKEYID")
        .set("buckets.b.s3.credentials.gone.secret_access_key", "withdrawn-secret")
        .set("buckets.b.s3.credentials.good.access_key_id", &origin.access_key_id)
        .set("buckets.b.s3.credentials.good.secret_access_key", &origin.secret_access_key)
        .start()
        .await;
    for number in 0..6 {
        let target = format!("/b/{number}");
        let put = request(gateway.address(), "PUT", &target, &[], Some(b"value")).await;
        assert_eq!(put.complete_status(), 200, "{}", put.text());
        assert_eq!(gateway.get(&target).await.text(), "value");
    }
    wait_for("a check finds it rejected", || async {
        (state(&gateway, "gone").await == "refused").then_some(())
    })
    .await;
    assert_eq!(state(&gateway, "good").await, "in_use");
    assert_none_exposed(&gateway, &["WITHDRAWNKEYID", "withdrawn-secret", &origin.secret_access_key]).await;
}

/// C3: after SlowDown for one pair the store is called with the other; the first one's quota group cools down
#[tokio::test]
async fn slow_down_selects_the_other_pair() {
    let upstream =
        Upstream::start(|seen| match seen.header("authorization").unwrap().contains("Credential=A/") {
            true => UpstreamReply::s3_error(503, "SlowDown").header("retry-after", "300"),
            false => UpstreamReply::ok("x"),
        });
    let gateway = two_pairs(&upstream).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!((upstream.count(), state(&gateway, "one").await), (5, "cooling".to_owned()));
    assert_eq!(
        gateway.metric("circuit_breaker_failures{bucket=\"b\",class=\"read\"}").await,
        0.0,
        "throttling is no failure"
    );
}

/// C3, A2: a client with `upstream = "same"` uses none of the bucket's credentials and ejects none
#[tokio::test]
async fn upstream_same_clients_eject_no_credential() {
    let upstream = Upstream::start(|_| UpstreamReply::s3_error(403, "InvalidAccessKeyId"));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("buckets.b.s3.credentials.one.access_key_id", "A")
        .set("buckets.b.s3.credentials.one.secret_access_key", "s")
        .set("keys.client.secret", "clients-secret")
        .set("keys.client.upstream", "same")
        .set("keys.client.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read")
        .start()
        .await;
    let signer = Signer::new("client", "clients-secret");
    let signed = signer.headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    let headers: Vec<(&str, &str)> =
        signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = request(gateway.address(), "GET", "/b/k", &headers, None).await;
    assert_eq!(answer.complete_status(), 403, "{}", answer.text());
    assert!(upstream.last().header("authorization").unwrap().contains("Credential=client/"));
    let one = credential(&gateway, "one").await;
    assert_eq!((one["state"].as_str(), one["in_flight"].as_u64()), (Some("in_use"), Some(0)));
}

/// C3: a 403 for one object ejects no credential
#[tokio::test]
async fn a_forbidden_object_ejects_no_credential() {
    let upstream = Upstream::start(|_| UpstreamReply::s3_error(403, "AccessDenied"));
    let gateway = two_pairs(&upstream).await;
    for _ in 0..10 {
        let answer = gateway.get("/b/k").await;
        assert_eq!(answer.complete_status(), 403);
        assert!(answer.text().contains("AccessDenied"));
    }
    assert_eq!(upstream.count(), 10);
    assert_eq!(
        (state(&gateway, "one").await, state(&gateway, "two").await),
        ("in_use".to_owned(), "in_use".to_owned())
    );
}
