//! `GET /` by the bearer of a token: the buckets of its claims, and the errors of invalid tokens.

use serde_json::json;

use super::{names, section, store};
use crate::jwt::issuer::{Issuer, SECRET};
use crate::jwt::{claims, send_with_token};
use crate::support::{Gateway, Upstream, get};

/// The section `logs` by pattern and the bucket `photos`, which accept tokens only, and `keys`, which accepts none.
async fn gateway_of(store: &Upstream) -> Gateway {
    let builder = Gateway::builder()
        .bucket("photos", store)
        .set("buckets.photos.auth", "jwt")
        .bucket("keys", store)
        .set("buckets.keys.auth", "sigv4")
        .set("jwt.issuer", "https://issuer.test")
        .set("jwt.audience", "tidegate")
        .set("jwt.secret", SECRET);
    section(builder, "logs", "logs-*", store).set("buckets.logs.auth", "jwt").start().await
}

/// A3, A5: a token lists the buckets of its claims that accept tokens; the store is called with the section's
/// credential, and does not get the token
#[tokio::test]
async fn a_token_lists_the_buckets_of_its_claims() {
    let store = store(&["logs-a", "logs-b", "logs-secret", "other"]);
    let gateway = gateway_of(&store).await;
    for (buckets, expected) in [
        (json!(["logs-a", "logs-b", "photos", "keys", "other"]), &["logs-a", "logs-b", "photos"][..]),
        (json!(["*"]), &["logs-a", "logs-b", "logs-secret", "photos"]),
        (json!(["logs-s*"]), &["logs-secret"]),
        (json!(["photos"]), &["photos"]),
    ] {
        let mut granted = claims();
        granted["buckets"] = buckets;
        let token = Issuer::secret().token(&granted);
        assert_eq!(names(&send_with_token(&gateway, "GET", "/", &token).await), expected, "{granted}");
    }
    assert_eq!(store.count(), 3, "a token without a bucket of the section causes no call");
    for seen in store.seen() {
        assert_eq!(seen.target, "/?max-buckets=10000");
        assert!(seen.header("authorization").unwrap().contains("Credential=STOREKEY/"), "{seen:?}");
    }
    gateway.wait_until_idle().await;
}

/// A3, V8: an invalid token is refused, a client without a token sees no bucket, and no store is called
#[tokio::test]
async fn an_invalid_token_lists_nothing() {
    let store = store(&["logs-a"]);
    let gateway = gateway_of(&store).await;
    let mut expired = claims();
    expired["exp"] = json!(1);
    for token in [Issuer::secret().token(&expired), Issuer::other_rsa().token(&claims()), "x.y.z".to_owned()]
    {
        let answer = send_with_token(&gateway, "GET", "/", &token).await;
        assert!([401, 403].contains(&answer.complete_status()), "{}", answer.text());
        assert!(!answer.text().contains("<Name>"), "{}", answer.text());
    }
    let anonymous = get(gateway.address(), "/").await;
    assert!(names(&anonymous).is_empty(), "{}", anonymous.text());
    assert_eq!(store.count(), 0);
}
