//! CORS preflights to presigned URLs.

use super::{ID, SECRET, Signer, signed_bucket};
use crate::support::{Upstream, request};

/// A6: a preflight to a presigned URL of a key with `upstream = "same"` names the key to the store and authenticates
/// nothing
#[tokio::test]
async fn a_preflight_names_the_presigned_urls_key_to_the_store() {
    let upstream = Upstream::ok("");
    let gateway = signed_bucket(&upstream)
        .set("keys.own.access_key_id", "OWN")
        .set("keys.own.secret", SECRET)
        .set("keys.own.policy", "all")
        .set("keys.own.upstream", "same")
        .set("buckets.b.auth", "sigv4,sigv2,jwt")
        .set("jwt.query", "access_token")
        .set("jwt.issuer", "me")
        .set("jwt.audience", "us")
        .set("jwt.secret", "a-secret-that-has-thirty-two-characters")
        .start()
        .await;
    let preflight = [("origin", "https://app.example.com"), ("access-control-request-method", "PUT")];
    let preflight = async |url: &str| {
        request(gateway.address(), "OPTIONS", url, &preflight, None).await.complete_status();
        upstream.last()
    };
    let zeros = "0".repeat(64);
    for (id, sent) in [("OWN", true), (ID, false), ("UNKNOWN", false)] {
        let url = Signer::new(id, SECRET).presigned("PUT", "/b/k?partNumber=1", "60");
        for url in [format!("{url}&X-Amz-Security-Token=token"), url] {
            let seen = preflight(&url).await;
            assert!(!seen.target.contains("Token"), "{}", seen.target);
            assert_eq!((seen.method.as_str(), seen.header("authorization")), ("OPTIONS", None));
            let expected = match sent {
                true => {
                    let (kept, _) = url.split_once("&X-Amz-Signature=").unwrap();
                    format!("{kept}&X-Amz-Signature={zeros}")
                }
                false => "/b/k?partNumber=1".to_owned(),
            };
            assert_eq!(seen.target, expected);
        }
    }
    let url = Signer::new("OWN", SECRET).presigned("PUT", "/b/k?partNumber=1", "60");
    let proofs = "&AWSAccessKeyId=OWN&Signature=abc&Expires=99&access_token=a.b.c&X-Amz-S3session-Token=t";
    let seen = preflight(&format!("{url}{proofs}")).await;
    assert!(seen.target.contains("X-Amz-Credential=OWN"), "{}", seen.target);
    for name in ["AWSAccessKeyId", "&Signature", "Expires=99", "access_token", "session-Token"] {
        assert!(!seen.target.contains(name), "{name}: {}", seen.target);
    }
    // An invalid presigned URL names no key.
    assert_eq!(preflight("/b/k?X-Amz-Credential=OWN&X-Amz-Signature=1").await.target, "/b/k");
}
