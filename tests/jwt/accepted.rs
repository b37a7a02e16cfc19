//! Accepted tokens: the rights that they grant, and the parts of them that are forwarded.

use serde_json::json;

use super::issuer::{self, Issuer};
use super::{buckets, claims, each_algorithm, send_with_token, with, with_public_key, with_secret};
use crate::support::{Response, Upstream, get, request};

/// A3: each algorithm with its key is accepted in buckets of both kinds; the token is not forwarded
#[tokio::test]
async fn a_token_grants_its_claims() {
    let upstream = Upstream::ok("x");
    for (issuer, gateway) in each_algorithm(&upstream).await {
        let token = issuer.token(&claims());
        for (method, target) in [
            ("GET", "/b/k"),
            ("PUT", "/b/k"),
            ("DELETE", "/b/k"),
            ("GET", "/b?list-type=2"),
            ("GET", "/api/v1"),
        ] {
            assert_eq!(
                send_with_token(&gateway, method, target, &token).await.complete_status(),
                200,
                "{method} {target}"
            );
            let seen = upstream.last();
            assert_eq!(seen.header("authorization"), None, "{seen:?}");
        }
        let line = gateway.wait_for_log_line("request", |line| line["subject"] == "ann").await;
        assert_eq!((&line["status"], &line["key"]), (&200.into(), &serde_json::Value::Null));
        let log = gateway.log_lines().iter().map(ToString::to_string).collect::<String>();
        assert!(!log.contains(&token), "no log line has the token");
    }
}

/// A3, A5: the claims list buckets, prefixes and methods; anything else is 403
#[tokio::test]
async fn claims_are_a_policy() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream)
        .bucket("c", &upstream)
        .set("buckets.c.auth", "jwt,sigv4")
        .bucket("closed", &upstream)
        .set("buckets.closed.auth", "sigv4")
        .set("jwt.claims.buckets", "https://issuer.test/buckets")
        .start()
        .await;
    let mut narrow = claims();
    narrow["https://issuer.test/buckets"] = json!(["b", "ap*", "closed"]);
    narrow["prefixes"] = json!(["public/"]);
    narrow["methods"] = json!(["read", "list", "delete"]);
    let token = Issuer::secret().token(&narrow);
    for (method, target) in [
        ("GET", "/b/public/k"),
        ("GET", "/b?list-type=2&prefix=public%2F"),
        ("HEAD", "/b/public/k"),
        ("GET", "/api/public/x"),
    ] {
        assert_eq!(
            send_with_token(&gateway, method, target, &token).await.complete_status(),
            200,
            "{method} {target}"
        );
    }
    let allowed = upstream.count();
    for (method, target) in [
        ("GET", "/b/secret/k"),
        ("GET", "/b?list-type=2"),
        ("PUT", "/b/public/k"),
        ("PUT", "/b?policy="),
        ("GET", "/c/public/k"),
        ("GET", "/api/other"),
    ] {
        let answer = send_with_token(&gateway, method, target, &token).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "policy_denied"), "{method} {target}");
    }
    let list = |key: &str| format!("<Delete><Object><Key>{key}</Key></Object></Delete>");
    for (key, is_denied) in [("public/k", false), ("secret/k", true)] {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        let body = list(key);
        let answer = request(gateway.address(), "POST", "/b?delete=", &headers, Some(body.as_bytes())).await;
        assert_eq!(answer.complete_status(), 200, "{key} among keys to delete");
        assert_eq!(answer.text().contains("<Code>AccessDenied</Code>"), is_denied, "{}", answer.text());
    }
    assert_eq!(upstream.count(), allowed + 1);
    let other = send_with_token(&gateway, "GET", "/closed/public/k", &token).await;
    assert_eq!(
        (other.complete_status(), other.reason()),
        (400, "authorization_scheme"),
        "a bucket for signatures"
    );
}

async fn with_headers(gateway: &crate::support::Gateway, target: &str, headers: &[(&str, &str)]) -> Response {
    request(gateway.address(), "GET", target, headers, None).await
}

/// A3: a token in a cookie or a query parameter is accepted, removed from the upstream request and not logged
#[tokio::test]
async fn a_token_may_be_in_a_cookie_or_the_query() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream).set("jwt.cookie", "session").set("jwt.query", "token").start().await;
    let token = Issuer::secret().token(&claims());
    for bucket in ["b", "api"] {
        let cookie = format!("a=1; session={token}; b=2");
        let path = format!("/{bucket}/k?versionId=%20&response-expires");
        assert_eq!(with_headers(&gateway, &path, &[("cookie", &cookie)]).await.complete_status(), 200);
        assert_eq!(upstream.last().header("cookie"), Some("a=1; b=2"));
        let alone = format!("session={token}");
        assert_eq!(with_headers(&gateway, &path, &[("cookie", &alone)]).await.complete_status(), 200);
        assert_eq!(upstream.last().header("cookie"), None);
        let target = format!("/{bucket}/k?versionId=%20&tok%65n={token}&response-expires");
        assert_eq!(get(gateway.address(), &target).await.complete_status(), 200);
        assert!(
            upstream.last().target.ends_with("/k?versionId=%20&response-expires"),
            "{}",
            upstream.last().target
        );
    }
    let listing = format!("/b?token={token}&list-type=2");
    assert_eq!(get(gateway.address(), &listing).await.complete_status(), 200, "a listing all the same");
    assert_eq!(upstream.last().target, "/b?list-type=2");
    let only = format!("/b/k?token={token}");
    let answer = get(gateway.address(), &only).await;
    assert_eq!((answer.complete_status(), upstream.last().target.as_str()), (200, "/b/k"));
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert_eq!(line["query"], "token=redacted");
    let log = gateway.log_lines().iter().map(ToString::to_string).collect::<String>();
    assert!(!log.contains(&token) && !gateway.stderr().contains(&token), "no log line has the token");
}

/// A3: a token in another header is accepted with or without the scheme; `Authorization` is then forwarded unless it is
/// a bearer
#[tokio::test]
async fn a_token_may_be_in_another_header() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream).set("jwt.header", "X-Token").start().await;
    let token = Issuer::secret().token(&claims());
    for value in [token.clone(), format!("Bearer {token}")] {
        let headers = [("x-token", value.as_str()), ("authorization", "Basic dXBzdHJlYW0=")];
        assert_eq!(with_headers(&gateway, "/api/k", &headers).await.complete_status(), 200);
        let seen = upstream.last();
        assert_eq!(
            (seen.header("x-token"), seen.header("authorization")),
            (None, Some("Basic dXBzdHJlYW0="))
        );
    }
    let elsewhere = send_with_token(&gateway, "GET", "/api/k", &token).await;
    assert_eq!((elsewhere.complete_status(), elsewhere.reason()), (401, "unproven"));
}

/// A3: a key file may have several keys and a second algorithm
#[tokio::test]
async fn keys_may_be_in_a_file() {
    let upstream = Upstream::ok("x");
    let (first, second) = (Issuer::rsa().named("one"), Issuer::p256().named("two"));
    let directory = crate::support::Scratch::new();
    let file = directory.path().join("keys.json");
    let set = json!({ "keys": [first.jwk(), second.jwk(), Issuer::secret().jwk()] });
    std::fs::write(&file, set.to_string()).unwrap();
    let gateway = buckets(&upstream).set("jwt.jwks_file", file.to_str().unwrap()).start().await;
    for issuer in [&first, &second] {
        assert_eq!(
            send_with_token(&gateway, "GET", "/b/k", &issuer.token(&claims())).await.complete_status(),
            200
        );
    }
    let secret = send_with_token(&gateway, "GET", "/b/k", &Issuer::secret().token(&claims())).await;
    assert_eq!(
        (secret.complete_status(), secret.reason()),
        (401, "token_algorithm"),
        "a key set must not have secrets"
    );
    // An unknown key ID triggers a reload of the file.
    let third = Issuer::other_rsa().named("three");
    std::fs::write(&file, json!({ "keys": [third.jwk()] }).to_string()).unwrap();
    assert_eq!(
        send_with_token(&gateway, "GET", "/b/k", &third.token(&claims())).await.complete_status(),
        200
    );
    assert_eq!(send_with_token(&gateway, "GET", "/b/k", &first.token(&claims())).await.reason(), "token_key");
}

/// A3, A4: a bucket with several authentication methods accepts each; `GET /` lists the buckets that a token may access
#[tokio::test]
async fn a_bucket_may_accept_tokens_and_signatures() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream)
        .set("buckets.b.auth", "sigv4,jwt,anonymous")
        .set("buckets.b.anonymous", "list")
        .bucket("c", &upstream)
        .set("buckets.c.auth", "jwt")
        .set("keys.reader.access_key_id", "AKIDREADER")
        .set("keys.reader.secret", "reader-secret")
        .set("keys.reader.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,list")
        .start()
        .await;
    let signer = crate::auth::signer::Signer::new("AKIDREADER", "reader-secret");
    let signed = signer.headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    let signed: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(with_headers(&gateway, "/b/k", &signed).await.complete_status(), 200);
    let token = Issuer::secret().token(&claims());
    assert_eq!(send_with_token(&gateway, "GET", "/b/k", &token).await.complete_status(), 200);
    assert_eq!(get(gateway.address(), "/b?list-type=2").await.complete_status(), 200, "without a credential");
    assert_eq!(get(gateway.address(), "/b/k").await.reason(), "anonymous_denied");
    let wrong = send_with_token(&gateway, "GET", "/b?list-type=2", "wrong").await;
    assert_eq!(
        (wrong.complete_status(), wrong.reason()),
        (401, "token_malformed"),
        "a wrong one is not anonymous"
    );
    let presigned = signer.presigned("GET", "/b/k", "60");
    let both = send_with_token(&gateway, "GET", &presigned, &token).await;
    assert_eq!((both.complete_status(), both.reason()), (400, "signature_ambiguous"));
    let names = send_with_token(&gateway, "GET", "/", &token).await.text();
    assert!(names.contains("<Name>b</Name>") && !names.contains("<Name>c</Name>"), "{names}");
    let wider = Issuer::secret().token(&with("buckets", json!("*")));
    assert!(send_with_token(&gateway, "GET", "/", &wider).await.text().contains("<Name>c</Name>"));
}

/// C1: a token is verified at most once per worker, and its claims are then cached for all
#[tokio::test]
async fn a_token_is_verified_once() {
    let upstream = Upstream::ok("x");
    let gateway = with_public_key(&upstream, "rsa.pub.pem").set("server.workers", "1").start().await;
    let token = Issuer::rsa().token(&claims());
    for _ in 0..10 {
        assert_eq!(send_with_token(&gateway, "GET", "/b/k", &token).await.complete_status(), 200);
    }
    let cache = gateway.status().await["sessions"].clone();
    assert_eq!((&cache["entries"], &cache["misses"], &cache["hits"]), (&1.into(), &1.into(), &0.into()));
    let other = Issuer::rsa().token(&with("sub", json!("bob")));
    assert_eq!(send_with_token(&gateway, "GET", "/b/k", &other).await.complete_status(), 200);
    assert_eq!(gateway.status().await["sessions"]["entries"], 2);
}

/// C1: a cache entry expires with its token
#[tokio::test]
async fn a_cached_token_expires() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream).set("jwt.leeway_seconds", "0").start().await;
    let token = Issuer::secret().token(&with("exp", json!(issuer::now() + 2)));
    assert_eq!(send_with_token(&gateway, "GET", "/b/k", &token).await.complete_status(), 200);
    let expired = crate::support::wait_for("the token expires", || async {
        let answer = send_with_token(&gateway, "GET", "/b/k", &token).await;
        (answer.complete_status() != 200).then_some(answer)
    })
    .await;
    assert_eq!((expired.status, expired.reason()), (401, "token_expired"));
}

/// L1: each subject has its own budget for all its tokens; a forged token is charged to no subject, and tokens without
/// a subject have separate budgets
#[tokio::test]
async fn each_subject_has_its_own_budget() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream)
        .set("rate_limit.cost.write", "2")
        .set("rate_limit.per_subject.requests_per_second", "0.01")
        .set("rate_limit.per_subject.burst", "3")
        .start()
        .await;
    let token = |subject: Option<&str>, id: &str| {
        let mut claims = claims();
        claims["sub"] = json!(subject);
        claims["jti"] = json!(id);
        Issuer::secret().token(&claims)
    };
    let forged = format!("{}AAAA", &token(Some("ann"), "1")[..token(Some("ann"), "1").len() - 4]);
    for _ in 0..3 {
        assert!(matches!(
            send_with_token(&gateway, "GET", "/b/k", &forged).await.complete_status(),
            401 | 403
        ));
    }
    for subject in [Some("ann"), Some("ben"), None] {
        for (method, id, status) in
            [("PUT", "1", 200), ("PUT", "2", 429), ("GET", "3", 200), ("GET", "1", 429)]
        {
            let answer = send_with_token(&gateway, method, "/b/k", &token(subject, id)).await;
            assert_eq!(answer.complete_status(), status, "{subject:?} {method}");
            assert_eq!(answer.reason(), if status == 429 { "rate_limit_subject" } else { "" });
        }
    }
}
