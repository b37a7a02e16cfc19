//! Answers that seem to reject an upstream credential: clients can provoke them, so one client alone never causes an
//! ejection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{FIRST, api, credential, key, state};
use crate::support::gateway::Builder;
use crate::support::{Gateway, Response, SeenRequest, Upstream, UpstreamReply, request, wait_for};

/// A gateway behind a trusted proxy, which names the client addresses.
fn behind_proxy(builder: Builder) -> Builder {
    builder.set("server.trusted_proxies", "127.0.0.1/32")
}

async fn ask_as(gateway: &Gateway, client: &str, target: &str) -> Response {
    request(gateway.address(), "GET", target, &[("x-forwarded-for", client)], None).await
}

async fn are_in_use(gateway: &Gateway) {
    for name in ["one", "two"] {
        let credential = credential(gateway, name).await;
        assert_eq!((&credential["state"], &credential["refused"]), (&"in_use".into(), &0.into()), "{name}");
    }
}

/// An S3 bucket `b` with two pairs, `A` and `B`.
fn store(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.credentials.one.access_key_id", "A")
        .set("buckets.b.s3.credentials.one.secret_access_key", "s")
        .set("buckets.b.s3.credentials.two.access_key_id", "B")
        .set("buckets.b.s3.credentials.two.secret_access_key", "t")
}

fn is_signed_by(seen: &SeenRequest, id: &str) -> bool {
    seen.header("authorization").is_some_and(|value| value.contains(&format!("Credential={id}/")))
}

fn is_check(seen: &SeenRequest) -> bool {
    seen.target == "/b?list-type=2&max-keys=1"
}

/// C3: an API client that requests 403 or 401 paths, one or many, ejects no credential
#[tokio::test]
async fn a_hostile_client_ejects_no_api_credential() {
    let upstream = Upstream::start(|seen| {
        let forbidden = seen.target.starts_with("/admin") || seen.number % 7 == 0;
        match seen.target.starts_with("/login") {
            true => UpstreamReply::new(401, "who are you"),
            false if forbidden => UpstreamReply::new(403, "not for you"),
            false => UpstreamReply::ok("x"),
        }
    });
    let gateway = behind_proxy(api(&upstream)).start().await;
    for target in ["/b/v1/models", "/b/v1/chat"] {
        ask_as(&gateway, "192.0.2.1", target).await;
    }
    for number in 0..30 {
        for target in ["/b/admin".to_owned(), format!("/b/admin/{number}"), format!("/b/login/{number}")] {
            let answer = ask_as(&gateway, "198.51.100.9", &target).await;
            assert!([403, 503].contains(&answer.status), "{target}: {answer:?}");
            assert!(!answer.reason().starts_with("credentials_"), "{target}: {answer:?}");
        }
    }
    are_in_use(&gateway).await;
    wait_for("other clients are served", || async {
        (ask_as(&gateway, "192.0.2.1", "/b/v1/models").await.status == 200).then_some(())
    })
    .await;
}

/// C3: a client that provokes `SignatureDoesNotMatch` and similar errors causes only a credential check by the gateway
#[tokio::test]
async fn a_hostile_client_ejects_no_key_pair() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        target if target.starts_with("/b/odd") => UpstreamReply::s3_error(403, "SignatureDoesNotMatch"),
        target if target.starts_with("/b/named") => UpstreamReply::s3_error(403, "InvalidAccessKeyId"),
        _ if is_check(seen) && is_signed_by(seen, "A") => UpstreamReply::s3_error(403, "AccessDenied"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = behind_proxy(store(&upstream)).start().await;
    assert_eq!(ask_as(&gateway, "192.0.2.1", "/b/k").await.complete_status(), 200);
    for number in 0..30 {
        for target in ["/b/odd".to_owned(), format!("/b/odd/{number}"), format!("/b/named/{number}")] {
            let answer = ask_as(&gateway, "198.51.100.9", &target).await;
            assert_eq!(
                (answer.complete_status(), answer.reason()),
                (503, "upstream_credentials"),
                "{target}"
            );
        }
    }
    let checks = "upstream_credential_checks_total{bucket=\"b\",result=\"accepted\"}";
    wait_for("both were checked", || async { (gateway.metric(checks).await >= 2.0).then_some(()) }).await;
    are_in_use(&gateway).await;
    assert_eq!(ask_as(&gateway, "192.0.2.1", "/b/k").await.complete_status(), 200);
    let checked = upstream.seen().iter().filter(|seen| is_check(seen)).count();
    assert!(checked <= 6, "{checked} checks: a client must not trigger any number of checks");
}

/// C3: a revoked key pair is ejected after one request and one check
#[tokio::test]
async fn a_check_ejects_a_revoked_key_pair() {
    let upstream = Upstream::start(|seen| match is_signed_by(seen, "A") {
        true => UpstreamReply::s3_error(403, "InvalidAccessKeyId"),
        false => UpstreamReply::ok("x"),
    });
    let gateway = store(&upstream).start().await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "the other pair serves");
    }
    wait_for("it is ejected", || async { (state(&gateway, "one").await == "refused").then_some(()) }).await;
    assert_eq!(state(&gateway, "two").await, "in_use");
    let checks = "upstream_credential_checks_total{bucket=\"b\",result=\"refused\"}";
    assert_eq!(gateway.metric(checks).await, 1.0);
}

/// C3: a revoked API key is found by `credential_check_path`, with one client and one request
#[tokio::test]
async fn a_check_ejects_a_revoked_api_key() {
    let upstream = Upstream::start(|seen| match seen.headers_named("x-api-key")[..] {
        [] | [FIRST] => UpstreamReply::new(401, "no"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = api(&upstream).set("buckets.b.http.credential_check_path", "/me").start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    wait_for("it is ejected", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (state(&gateway, "one").await == "refused").then_some(())
    })
    .await;
    assert_eq!(state(&gateway, "two").await, "in_use");
}

/// C3: a public check path proves nothing, so it neither confirms nor ejects a key
#[tokio::test]
async fn a_public_check_path_proves_nothing() {
    let upstream = Upstream::start(|seen| match seen.target == "/health" {
        true => UpstreamReply::ok("well"),
        false => UpstreamReply::new(401, "no"),
    });
    let gateway = api(&upstream).set("buckets.b.http.credential_check_path", "/health").start().await;
    gateway.get("/b/k").await;
    let checks = "upstream_credential_checks_total{bucket=\"b\",result=\"inconclusive\"}";
    wait_for("it was checked", || async { (gateway.metric(checks).await >= 1.0).then_some(()) }).await;
    are_in_use(&gateway).await;
}

/// C3: without a check, rejections from several clients on several paths, one of which worked before, eject a revoked
/// key
#[tokio::test]
async fn independent_rejections_eject_a_revoked_key() {
    let is_revoked = Arc::new(AtomicBool::new(false));
    let revoked = Arc::clone(&is_revoked);
    let upstream = Upstream::start(move |seen| match revoked.load(Ordering::SeqCst) && key(seen) == FIRST {
        true => UpstreamReply::new(401, "no"),
        false => UpstreamReply::ok("x"),
    });
    let gateway = behind_proxy(api(&upstream)).start().await;
    let ask = async |client: &str| {
        for target in ["/b/1", "/b/2", "/b/3"] {
            // Twice, so that each key is used.
            assert_eq!(ask_as(&gateway, client, target).await.complete_status(), 200);
            assert_eq!(ask_as(&gateway, client, target).await.complete_status(), 200);
        }
    };
    ask("192.0.2.1").await;
    is_revoked.store(true, Ordering::SeqCst);
    ask("192.0.2.1").await;
    are_in_use(&gateway).await;
    wait_for("a second client's request confirms it", || async {
        ask("192.0.2.2").await;
        (state(&gateway, "one").await == "refused").then_some(())
    })
    .await;
    assert_eq!(state(&gateway, "two").await, "in_use");
}

/// C3: one 403 does not fail a trial
#[tokio::test]
async fn one_403_does_not_fail_a_trial() {
    let is_good = Arc::new(AtomicBool::new(false));
    let good = Arc::clone(&is_good);
    let upstream = Upstream::start(move |seen| match seen.headers_named("x-api-key")[..] {
        _ if seen.target == "/secret" => UpstreamReply::new(403, "not for you"),
        [] => UpstreamReply::new(401, "no"),
        [FIRST] if !good.load(Ordering::SeqCst) => UpstreamReply::new(401, "no"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = api(&upstream)
        .set("buckets.b.http.credential_check_path", "/me")
        .set("buckets.b.http.credential_pool.refused_seconds", "1")
        .start()
        .await;
    wait_for("it is ejected", || async {
        gateway.get("/b/k").await;
        (state(&gateway, "one").await == "refused").then_some(())
    })
    .await;
    is_good.store(true, Ordering::SeqCst);
    wait_for("the ejection has ended", || async {
        (state(&gateway, "one").await == "on_trial").then_some(())
    })
    .await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/secret").await.complete_status(), 403);
    }
    wait_for("it is in use again", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (state(&gateway, "one").await == "in_use").then_some(())
    })
    .await;
    assert_eq!(credential(&gateway, "one").await["refused"], 1, "ejected once, and not by a 403");
}

/// C3, H1: with injected credentials, a client's own credential is never forwarded, in whatever header it is
#[tokio::test]
async fn a_clients_credential_is_never_forwarded_beside_an_injected_one() {
    let upstream = Upstream::ok("x");
    let gateway = api(&upstream)
        .http_bucket("other", &upstream)
        .set("buckets.other.http.credentials.k.header", "x-house-key")
        .set("buckets.other.http.credentials.k.value", "house")
        .http_bucket("plain", &upstream)
        .start()
        .await;
    let own = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token", "x-house-key"];
    let headers = own.map(|name| (name, "clients-own"));
    assert_eq!(request(gateway.address(), "GET", "/b/k", &headers, None).await.complete_status(), 200);
    let seen = upstream.last();
    for name in own.iter().filter(|name| **name != "x-api-key") {
        assert!(seen.headers_named(name).is_empty(), "{name} was forwarded: {:?}", seen.headers);
    }
    assert!(key(&seen).ends_with("secret-of-the-api"));
    assert_eq!(request(gateway.address(), "GET", "/plain/k", &headers, None).await.complete_status(), 200);
    let plain = upstream.last();
    assert!(
        own.iter().all(|name| plain.headers_named(name) == ["clients-own"]),
        "a bucket without an injected credential"
    );
}
