//! The state of circuits, endpoints, credentials, locked out clients and TLS sessions crosses.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, version};
use serde_json::Value;

use super::Upgradable;
use crate::auth::signer::Signer;
use crate::https::Identity;
use crate::https::tickets::ResumingClient;
use crate::support::{Gateway, Upstream, UpstreamReply, request, wait_for};

/// The moment at which a state ends: not before the first and not after the second.
type End = (Instant, Instant);

/// The end of a state, from the milliseconds that `/status` has left of it.
async fn end<F: Future<Output = Value>>(left_ms: impl FnOnce() -> F) -> End {
    let before = Instant::now();
    let left = left_ms().await;
    let left = Duration::from_millis(left.as_u64().unwrap_or_else(|| panic!("no end: {left}")));
    // A figure is a whole number of milliseconds.
    (before + left, Instant::now() + left + Duration::from_millis(1))
}

fn assert_same_end(one: End, other: End) {
    let rounding = Duration::from_millis(1);
    assert!(one.0 <= other.1 + rounding && other.0 <= one.1 + rounding, "{one:?} {other:?}");
}

async fn read_circuit(gateway: &Gateway) -> Value {
    gateway.status().await["buckets"]["b"]["breaker"]["read"].clone()
}

/// A gateway with an open circuit that stays open for so many seconds, and its end.
async fn with_open_circuit(upstream: &Upstream, seconds: &str) -> (Upgradable, End) {
    let key = |name: &str| format!("buckets.b.s3.{name}");
    let builder = Gateway::builder()
        .bucket("b", upstream)
        .set(&key("retry.max_attempts"), "1")
        .set(&key("circuit_breaker.failure_threshold"), "2")
        .set(&key("circuit_breaker.timeout_seconds"), seconds);
    let running = Upgradable::start(builder).await;
    for _ in 0..2 {
        assert_eq!(running.gateway.get("/b/k").await.complete_status(), 500);
    }
    let opens = || async { (read_circuit(&running.gateway).await["state"] == "open").then_some(()) };
    wait_for("the circuit opens", opens).await;
    let end = end(|| async { read_circuit(&running.gateway).await["open_for_ms"].clone() }).await;
    (running, end)
}

/// G11, B2: an open circuit is open in the new process, with the same end and cause, and in the old one until it ends
#[tokio::test]
async fn an_open_circuit_stays_open() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let (running, expected) = with_open_circuit(&upstream, "600").await;
    let before = read_circuit(&running.gateway).await;
    let mut kept = crate::support::Client::connect(running.gateway.address()).await;
    kept.send(crate::support::client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(kept.response("GET").await.reason(), "breaker_open");
    running.upgraded().await;
    let after = read_circuit(&running.gateway).await;
    for field in ["state", "cause", "consecutive_failures"] {
        assert_eq!(after[field], before[field], "{field}: {after}");
    }
    let found = end(|| async { read_circuit(&running.gateway).await["open_for_ms"].clone() }).await;
    assert_same_end(expected, found);
    for _ in 0..5 {
        assert_eq!(running.gateway.get("/b/k").await.reason(), "breaker_open");
    }
    kept.send(crate::support::client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(kept.response("GET").await.reason(), "breaker_open", "the old process");
    assert_eq!(upstream.count(), 2, "the store got no request");
}

/// G11, B1, B4: the store gets its next request after the end of the open circuit, and it is a trial that closes the circuit
#[tokio::test]
async fn an_open_circuit_ends_when_it_would_have() {
    let arrivals = Arc::<Mutex<Vec<Instant>>>::default();
    let arrived = Arc::clone(&arrivals);
    let upstream = Upstream::start(move |seen| {
        arrived.lock().unwrap().push(Instant::now());
        if seen.number <= 2 { UpstreamReply::status(500) } else { UpstreamReply::ok("x") }
    });
    let (mut running, (earliest, _)) = with_open_circuit(&upstream, "2").await;
    running.upgraded().await;
    running.wait_for_end_of_predecessor().await;
    wait_for("the circuit closes", || async {
        running.gateway.get("/b/k").await;
        (read_circuit(&running.gateway).await["state"] == "closed").then_some(())
    })
    .await;
    let first_trial = arrivals.lock().unwrap()[2];
    assert!(first_trial >= earliest, "{:?} too early", earliest - first_trial);
}

async fn bad_endpoint(gateway: &Gateway) -> Value {
    gateway.status().await["buckets"]["b"]["pool"]["endpoints"][1].clone()
}

/// G11, P5: an ejected endpoint stays ejected to the same end and gets no request
#[tokio::test]
async fn an_ejected_endpoint_stays_ejected() {
    let good = Upstream::ok("x");
    let bad = Upstream::start(|_| UpstreamReply::status(500));
    let builder = Gateway::builder()
        .bucket_at("b", &[good.address(), bad.address()])
        .set("buckets.b.s3.outlier_ejection.base_seconds", "600");
    let running = Upgradable::start(builder).await;
    wait_for("the endpoint is ejected", || async {
        assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
        (bad_endpoint(&running.gateway).await["state"] == "ejected").then_some(())
    })
    .await;
    let left = || async { bad_endpoint(&running.gateway).await["out_for_ms"].clone() };
    let (expected, calls) = (end(left).await, bad.count());
    running.upgraded().await;
    let endpoint = bad_endpoint(&running.gateway).await;
    assert_eq!((&endpoint["state"], &endpoint["cause"]), (&"ejected".into(), &"status".into()), "{endpoint}");
    assert_same_end(expected, end(left).await);
    for _ in 0..10 {
        assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!(bad.count(), calls);
}

/// G11, C3: a credential that the store has throttled cools down to the same end, and no request has it
#[tokio::test]
async fn a_cooling_credential_stays_cooling() {
    const COOLING: &str = "first-secret-of-the-api";
    let upstream = Upstream::start(|seen| match seen.header("x-api-key") {
        Some(COOLING) => UpstreamReply::new(429, "slower").header("retry-after", "300"),
        _ => UpstreamReply::ok("x"),
    });
    let key = |name: &str| format!("buckets.b.http.credentials.{name}");
    let builder = Gateway::builder()
        .http_bucket("b", &upstream)
        .set(&key("one.header"), "x-api-key")
        .set(&key("one.value"), COOLING)
        .set(&key("two.header"), "x-api-key")
        .set(&key("two.value"), "second-secret-of-the-api");
    let running = Upgradable::start(builder).await;
    let one = || async {
        let status = running.gateway.status().await;
        let all = status["buckets"]["b"]["pool"]["credentials"].as_array().unwrap();
        all.iter().find(|credential| credential["name"] == "one").unwrap().clone()
    };
    wait_for("the credential cools down", || async {
        assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
        (one().await["state"] == "cooling").then_some(())
    })
    .await;
    let left = || async { one().await["out_for_ms"].clone() };
    let expected = end(left).await;
    running.upgraded().await;
    let after = one().await;
    assert_eq!((&after["state"], &after["cause"]), (&"cooling".into(), &"throttled".into()), "{after}");
    assert_same_end(expected, end(left).await);
    for _ in 0..6 {
        assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
    }
    let seen = upstream.seen();
    let uses = seen.iter().filter(|seen| seen.header("x-api-key") == Some(COOLING)).count();
    assert_eq!(uses, 1, "before it cooled down");
}

/// G11, L8: an address that is locked out after failed authentication stays so
#[tokio::test]
async fn a_lockout_stays() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("keys.reader.access_key_id", "AKIDREADER")
        .set("keys.reader.secret", "reader-secret")
        .set("keys.reader.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read")
        .set("rate_limit.failed_auth.requests_per_second", "0.001")
        .set("rate_limit.failed_auth.burst", "3");
    let running = Upgradable::start(builder).await;
    let send = async |secret: &str| {
        let headers = Signer::new("AKIDREADER", secret).headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = request(running.gateway.address(), "GET", "/b/k", &headers, None).await;
        answer.reason().to_owned()
    };
    assert_eq!(send("reader-secret").await, "");
    for _ in 0..3 {
        assert_eq!(send("a-guess").await, "signature_mismatch");
    }
    assert_eq!(send("a-guess").await, "rate_limit_failed_auth");
    running.fail_hand_over().await;
    assert_eq!(send("reader-secret").await, "rate_limit_failed_auth", "after a failed upgrade");
    running.replace_by(super::BINARY);
    running.upgraded().await;
    for secret in ["a-guess", "reader-secret"] {
        assert_eq!(send(secret).await, "rate_limit_failed_auth", "{secret}");
    }
    assert_eq!(upstream.count(), 1);
}

/// G11, A7: clients resume the TLS sessions of the old process at the new one, after two upgrades too
#[tokio::test]
async fn tls_sessions_are_resumed() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let mut running = Upgradable::start(identity.gateway_before(&upstream)).await;
    let clients = [&version::TLS12, &version::TLS13].map(|one| ResumingClient::new(&identity, one, false));
    for client in &clients {
        assert_eq!(client.data(&running.gateway).await, HandshakeKind::Full);
    }
    for upgrade in 1..=2 {
        running.upgraded().await;
        for client in &clients {
            assert_eq!(client.data(&running.gateway).await, HandshakeKind::Resumed, "upgrade {upgrade}");
        }
        if upgrade == 1 {
            running.wait_for_end_of_predecessor().await;
        }
    }
}
