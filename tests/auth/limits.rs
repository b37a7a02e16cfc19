//! Rate limits by identity: per client key, and per address for failed authentication.

use super::signer::Headers;
use super::{ID, Signer, send, send_signed, signed_bucket, signer};
use crate::support::{Response, Upstream, get};

async fn send_with_api_key(gateway: &crate::support::Gateway, secret: &str) -> Response {
    send_signed(gateway, &Signer::new(ID, secret), "GET", "/b/k").await
}

/// L8: authentication failures are charged to the address; over the limit no credential is verified, not even a correct
/// one
#[tokio::test]
async fn repeated_failures_lock_out_the_address() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.anonymous", "read")
        .set("rate_limit.failed_auth.requests_per_second", "0.01")
        .set("rate_limit.failed_auth.burst", "3")
        .start()
        .await;
    for _ in 0..10 {
        assert_eq!(
            send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(),
            200,
            "successes are not charged"
        );
    }
    for at in 0..3 {
        assert_eq!(send_with_api_key(&gateway, &format!("guess-{at}")).await.reason(), "signature_mismatch");
    }
    let refused = send_with_api_key(&gateway, "guess-3").await;
    assert_eq!((refused.complete_status(), refused.reason()), (429, "rate_limit_failed_auth"));
    assert!(refused.retry_after().unwrap() > 60, "{refused:?}");
    assert_eq!(
        send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(),
        429,
        "a correct key gets the same refusal"
    );
    assert_eq!(
        send_signed(&gateway, &signer(), "GET", "/").await.complete_status(),
        429,
        "neither by the list of buckets"
    );
    assert_eq!(
        get(gateway.address(), "/b/k").await.complete_status(),
        200,
        "an anonymous client is not refused"
    );
    assert!(gateway.metric("rate_limit_exceeded_total{bucket=\"b\"}").await >= 2.0);
}

/// L8: an expired URL and a skewed clock are not counted as failed guesses
#[tokio::test]
async fn an_expired_url_is_not_counted_as_a_guess() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("rate_limit.failed_auth.requests_per_second", "0.01")
        .set("rate_limit.failed_auth.burst", "1")
        .start()
        .await;
    let late = Signer { ahead_seconds: -3600, ..signer() };
    for _ in 0..3 {
        let link = late.presigned("GET", "/b/k", "60");
        assert_eq!(get(gateway.address(), &link).await.reason(), "presigned_expired");
        assert_eq!(send_signed(&gateway, &late, "GET", "/b/k").await.reason(), "clock_skewed");
    }
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
}

/// L8, S5: a lockout survives a crash of the limiter
#[tokio::test]
async fn a_lockout_survives_a_limiter_crash() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .chaos()
        .set("rate_limit.failed_auth.requests_per_second", "0.01")
        .set("rate_limit.failed_auth.burst", "1")
        .start()
        .await;
    assert_eq!(send_with_api_key(&gateway, "guess").await.reason(), "signature_mismatch");
    assert_eq!(send_with_api_key(&gateway, "guess").await.reason(), "rate_limit_failed_auth");
    gateway.crash("limiter", "apply").await;
    gateway.wait_for_generation("limiter", 2).await;
    assert_eq!(send_with_api_key(&gateway, "guess").await.reason(), "rate_limit_failed_auth");
}

/// L1: each key has its own budget for all addresses, and a forged ID is charged to no key
#[tokio::test]
async fn each_key_has_its_own_budget() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("keys.other.access_key_id", "AKIDOTHER")
        .set("keys.other.secret", "other-secret")
        .set("keys.other.policy", "all")
        .set("rate_limit.per_key.requests_per_second", "0.01")
        .set("rate_limit.per_key.burst", "2")
        .start()
        .await;
    for _ in 0..5 {
        assert_eq!(send_with_api_key(&gateway, "forged-secret").await.complete_status(), 403);
    }
    let statuses = async |signer: &Signer| {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(send_signed(&gateway, signer, "GET", "/b/k").await.complete_status());
        }
        statuses
    };
    assert_eq!(statuses(&signer()).await, [200, 200, 429]);
    assert_eq!(statuses(&Signer::new("AKIDOTHER", "other-secret")).await, [200, 200, 429]);
    let refused = send_signed(&gateway, &signer(), "GET", "/b/k").await;
    assert_eq!(refused.reason(), "rate_limit_key");
    assert!(refused.header("ratelimit-policy").unwrap().starts_with("\"key\";q=2;"), "{refused:?}");
    assert_eq!(upstream.count(), 4);
}

/// L1: a key may have a limit above or below the common one, and may be in shadow mode while the others are not
#[tokio::test]
async fn a_key_may_have_a_limit_of_its_own() {
    let upstream = Upstream::ok("x");
    let mut builder = signed_bucket(&upstream)
        .set("rate_limit.per_key.requests_per_second", "0.01")
        .set("rate_limit.per_key.burst", "2")
        .set("buckets.b.auth", "sigv4,api_key")
        .set("rate_limit.cost.list", "2")
        .set("api_keys.app.secret", "0123456789abcdef-app")
        .set("api_keys.app.policy", "all");
    for (key, burst) in [("keys.large", "4"), ("keys.tried", "2"), ("api_keys.app", "3")] {
        builder = builder
            .set(&format!("{key}.rate_limit.requests_per_second"), "0.01")
            .set(&format!("{key}.rate_limit.burst"), burst);
    }
    for key in ["large", "tried"] {
        builder = builder
            .set(&format!("keys.{key}.secret"), "other-secret")
            .set(&format!("keys.{key}.policy"), "all");
    }
    let gateway = builder.set("keys.tried.rate_limit.mode", "shadow").start().await;
    let seen = async |signer: &Signer| {
        let mut seen = Vec::new();
        for target in ["/b?prefix=a", "/b/k", "/b/k", "/"] {
            let answer = send_signed(&gateway, signer, "GET", target).await;
            assert!(matches!(answer.reason(), "" | "rate_limit_key"), "{answer:?}");
            seen.push((answer.complete_status(), answer.header("x-tidegate-shadow").is_some()));
        }
        seen
    };
    let (passes, refused, shadowed) = ((200, false), (429, false), (200, true));
    assert_eq!(seen(&signer()).await, [passes, refused, refused, refused]);
    assert_eq!(seen(&Signer::new("large", "other-secret")).await, [passes, passes, passes, refused]);
    assert_eq!(seen(&Signer::new("tried", "other-secret")).await, [passes, shadowed, shadowed, shadowed]);
    let app = [("x-api-key".to_owned(), "0123456789abcdef-app".to_owned())].to_vec();
    for (target, status) in [("/b?prefix=a", 200), ("/b?prefix=a", 429), ("/b/k", 200), ("/b/k", 429)] {
        assert_eq!(send(&gateway, "GET", target, &app, None).await.complete_status(), status, "{target}");
    }
}

/// L6, L8: in shadow mode failed authentication is never locked out, and each answer states from when on it would have
/// been
#[tokio::test]
async fn shadow_mode_does_not_lock_out() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("rate_limit.failed_auth.requests_per_second", "0.01")
        .set("rate_limit.failed_auth.burst", "2")
        .set("rate_limit.failed_auth.mode", "shadow")
        .start()
        .await;
    for shadow in [None, None, Some("rate_limit_failed_auth"), Some("rate_limit_failed_auth")] {
        let answer = send_with_api_key(&gateway, "guess").await;
        assert_eq!((answer.reason(), answer.header("x-tidegate-shadow")), ("signature_mismatch", shadow));
    }
    let right = send_signed(&gateway, &signer(), "GET", "/b/k").await;
    assert_eq!(
        (right.complete_status(), right.header("x-tidegate-shadow")),
        (200, Some("rate_limit_failed_auth"))
    );
    let shadowed = gateway.metric("rate_limit_shadowed_total{bucket=\"b\",limit=\"failed_auth\"}").await;
    assert_eq!(shadowed, 3.0, "each request once");
}

/// V1, A1: with `Expect: 100-continue` a wrong signature is refused before the 100
#[tokio::test]
async fn a_wrong_signature_is_refused_before_the_body() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    let wrong: Headers = Signer::new(ID, "wrong-secret").headers("PUT", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    let mut client = crate::support::Client::connect(gateway.address()).await;
    let lines: String = wrong.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "PUT /b/k HTTP/1.1\r\nhost: gateway.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n{lines}\r\n"
    );
    client.send(head.into_bytes()).await;
    let first = client.try_head().await.unwrap();
    assert_eq!(first.status, 403, "no 100 came first");
    let right = signer().headers("PUT", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    assert_eq!(send(&gateway, "PUT", "/b/k", &right, Some(b"bytes")).await.complete_status(), 200);
}
