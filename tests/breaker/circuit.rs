//! The state machine of a circuit: when it opens, which requests it refuses and admits as trials, when it closes.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{circuit, circuit_of, opens, passes, start};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, get, request, wait_for};

/// A PUT that ends in mid-body, too large for any buffer.
fn half_an_upload() -> Vec<u8> {
    let mut bytes = b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    bytes.resize(500_000, b'x');
    bytes
}

/// An upstream with failures that can be switched on.
fn switchable() -> (Upstream, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&fails);
    let upstream = Upstream::start(move |_| {
        if switch.load(Ordering::SeqCst) { UpstreamReply::status(500) } else { UpstreamReply::ok("x") }
    });
    (upstream, fails)
}

/// B1, B2, B5: five failures in a row open the circuit: 503 at once with a true Retry-After, no calls upstream, and no
/// effect on another bucket
#[tokio::test]
async fn five_failures_open_the_circuit_of_this_bucket_alone() {
    let bad = Upstream::start(|_| UpstreamReply::status(500));
    let good = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &bad)
        .bucket("good", &good)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .start()
        .await;
    for failures in 1..=5 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500, "failure {failures} is forwarded");
    }
    opens(&gateway).await;
    for _ in 0..3 {
        let refused = gateway.get("/b/k").await;
        assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_open"));
        assert!((40..=72).contains(&refused.retry_after().unwrap()), "{refused:?}");
        assert_eq!(gateway.get("/good/k").await.complete_status(), 200);
    }
    assert_eq!(bad.count(), 5);
    let circuit = circuit(&gateway).await;
    assert_eq!((&circuit["state"], &circuit["cause"]), (&"open".into(), &"status 500".into()));
    assert_eq!((&circuit["consecutive_failures"], &circuit["opened_total"]), (&5.into(), &1.into()));
    assert!(circuit["open_for_ms"].as_u64().unwrap() <= 60_000);
    assert_eq!(gateway.metric("circuit_breaker_state{bucket=\"b\",class=\"read\"}").await, 1.0);
    assert_eq!(gateway.metric("circuit_breaker_state{bucket=\"good\",class=\"read\"}").await, 0.0);
    assert_eq!(gateway.metric("circuit_breaker_opened_total{bucket=\"b\",class=\"read\"}").await, 1.0);
    assert_eq!(gateway.metric("circuit_breaker_failures{bucket=\"b\",class=\"read\"}").await, 5.0);
}

/// B1: a success resets the count of consecutive failures
#[tokio::test]
async fn a_success_ends_a_row_of_failures() {
    let upstream = Upstream::start(|seen| {
        if seen.number % 5 == 0 { UpstreamReply::ok("x") } else { UpstreamReply::status(500) }
    });
    let gateway = start(&upstream, &[]).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    assert_eq!(circuit(&gateway).await["consecutive_failures"], 4);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    wait_for("the count of consecutive failures is reset", || async {
        (circuit(&gateway).await["consecutive_failures"] == 0).then_some(())
    })
    .await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    assert_eq!(circuit(&gateway).await["state"], "closed");
}

/// B1, B3: a failure rate of half opens the circuit without five failures in a row
#[tokio::test]
async fn half_of_the_calls_failing_opens_the_circuit() {
    let upstream = Upstream::start(|seen| {
        if seen.number % 2 == 0 { UpstreamReply::ok("x") } else { UpstreamReply::status(503) }
    });
    let gateway = start(&upstream, &[]).await;
    for call in 1..=21 {
        let expected = if call % 2 == 0 { 200 } else { 503 };
        assert_eq!(gateway.get("/b/k").await.complete_status(), expected, "call {call}");
    }
    opens(&gateway).await;
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
    assert_eq!(upstream.count(), 21);
    // O4, X10: the rule that opened it explains the circuit, its transition and its refusals
    let expected = json!({ "rule": "failure_rate", "measured": 52, "threshold": 50 });
    assert_eq!(circuit(&gateway).await["opened_by"], expected);
    for reason in ["circuit_opened", "breaker_open"] {
        let answer = gateway.admin(&format!("/decisions?reason={reason}")).await;
        let found: Value = serde_json::from_slice(&answer.body).unwrap();
        let decision = &found["decisions"][0];
        let figures = (&decision["measured"], &decision["threshold"], &decision["unit"]);
        assert_eq!(figures, (&json!(52), &json!(50), &json!("%")), "{found}");
        assert_eq!(
            decision["config"]["key"], "buckets.b.s3.circuit_breaker.failure_rate_threshold",
            "{found}"
        );
    }
    let status = gateway.status().await;
    let cause = status["causes"].as_array().unwrap().iter().find(|cause| cause["code"] == "circuit_open");
    let threshold = json!({ "value": 50.0, "unit": "% of failed calls" });
    assert_eq!(cause.unwrap()["threshold"], threshold, "{status}");
}

/// B1, B3: connect failures, resets and timeouts count like error statuses
#[tokio::test]
async fn failures_without_an_answer_count() {
    for (reply, status, cause) in [
        (UpstreamReply::reset(), 502, "reset"),
        (UpstreamReply::hang(), 504, "timeout"),
        (UpstreamReply::raw("nonsense\r\n\r\n"), 502, "decode"),
    ] {
        let upstream = Upstream::start(move |_| reply.clone());
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("buckets.b.s3.retry.max_attempts", "1")
            .set("buckets.b.s3.timeout", "0.05")
            .set("buckets.b.s3.circuit_breaker.failure_threshold", "2")
            .start()
            .await;
        for _ in 0..2 {
            assert_eq!(gateway.get("/b/k").await.complete_status(), status, "{cause}");
        }
        opens(&gateway).await;
        assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open", "{cause}");
        assert_eq!(circuit(&gateway).await["cause"], cause);
    }
    let refusing = crate::support::unreachable::RefusingAddress::new();
    let gateway = Gateway::builder()
        .bucket_at("b", &[refusing.address])
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "2")
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/k").await.reason(), "upstream_connect");
    }
    opens(&gateway).await;
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
}

/// B1, B4: half-open admits at most three concurrent trials (Resilience4j #1432); two successes close it
#[tokio::test]
async fn half_open_admits_three_trials_and_two_successes_close_it() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| {
        if seen.number == 1 { UpstreamReply::status(500) } else { UpstreamReply::ok("x").when_open(&held) }
    });
    let gateway = start(&upstream, &[("failure_threshold", "1"), ("timeout_seconds", "0.2")]).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    passes(&gateway, Duration::from_millis(200)).await;
    let address = gateway.address();
    let trials: Vec<_> = (0..3).map(|_| tokio::spawn(async move { get(address, "/b/k").await })).collect();
    upstream.wait_until_in_flight(3).await;
    assert_eq!(circuit(&gateway).await["state"], "half_open");
    assert_eq!(gateway.metric("circuit_breaker_state{bucket=\"b\",class=\"read\"}").await, 2.0);
    let fourth = gateway.get("/b/k").await;
    assert_eq!((fourth.complete_status(), fourth.reason()), (503, "breaker_half_open"));
    assert!(fourth.retry_after().is_some());
    assert_eq!(upstream.count(), 4);
    latch.open_for_all();
    for trial in trials {
        assert_eq!(trial.await.unwrap().complete_status(), 200);
    }
    wait_for("the circuit closes", || async { (circuit(&gateway).await["state"] == "closed").then_some(()) })
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// B1: one failed trial re-opens the circuit, for longer than the first time
#[tokio::test]
async fn a_failed_trial_opens_the_circuit_for_longer() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = start(&upstream, &[("failure_threshold", "1"), ("timeout_seconds", "3")]).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    passes(&gateway, Duration::from_secs(3)).await;
    let opened = Instant::now();
    assert_eq!(gateway.get("/b/k").await.complete_status(), 500, "the trial");
    wait_for("the circuit opens again", || async {
        (circuit(&gateway).await["opened_total"] == 2).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
    let circuit = circuit(&gateway).await;
    assert_eq!(circuit["opened_total"], 2);
    // Twice as long, with a jitter of a tenth.
    let left = Duration::from_millis(circuit["open_for_ms"].as_u64().unwrap());
    assert!(left <= Duration::from_millis(6600), "{left:?}");
    assert!(left + opened.elapsed() >= Duration::from_millis(5350), "{left:?}");
    assert_eq!(upstream.count(), 2);
}

/// B1, R4: a longer Retry-After of the upstream extends the open time
#[tokio::test]
async fn the_upstreams_retry_after_is_honoured() {
    let upstream = Upstream::start(|_| UpstreamReply::status(503).header("retry-after", "300"));
    let gateway = start(&upstream, &[("failure_threshold", "1"), ("timeout_seconds", "1")]).await;
    let passed_on = gateway.get("/b/k").await;
    assert_eq!((passed_on.complete_status(), passed_on.retry_after()), (503, Some(300)));
    opens(&gateway).await;
    let refused = gateway.get("/b/k").await;
    assert_eq!(refused.reason(), "breaker_open");
    assert!((280..=360).contains(&refused.retry_after().unwrap()), "{refused:?}");
}

/// B3: client errors and throttling do not count as failures
#[tokio::test]
async fn client_errors_and_throttling_do_not_count() {
    for status in [400, 403, 404, 409, 412, 416, 429, 501] {
        let upstream = Upstream::start(move |_| UpstreamReply::status(status));
        let gateway = start(&upstream, &[("failure_threshold", "1")]).await;
        for _ in 0..3 {
            assert_eq!(gateway.get("/b/k").await.complete_status(), status);
        }
        assert_eq!(circuit(&gateway).await["consecutive_failures"], 0, "{status}");
    }
    let upstream = Upstream::start(|_| UpstreamReply::s3_error(503, "SlowDown"));
    let gateway = start(&upstream, &[("failure_threshold", "1")]).await;
    for _ in 0..3 {
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.reason()), (503, ""));
    }
}

/// B3, T7: clients that disconnect while they wait, download or upload do not count as failures
#[tokio::test]
async fn client_disconnects_do_not_count() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/waits" => UpstreamReply::hang(),
        "/b/streams" => UpstreamReply::ok("begin").then_body_when_open(&held, "end"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = start(&upstream, &[("failure_threshold", "1")]).await;
    for _ in 0..2 {
        let mut waiting = Client::connect(gateway.address()).await;
        waiting.send(client::message("GET", "/b/waits", &[], None)).await;
        upstream.wait_until_in_flight(1).await;
        drop(waiting);
        upstream.wait_until_in_flight(0).await;

        let mut streaming = Client::connect(gateway.address()).await;
        streaming.send(client::message("GET", "/b/streams", &[], None)).await;
        assert_eq!(streaming.head().await.status, 200);
        streaming.reset();
        upstream.wait_until_in_flight(0).await;

        let mut uploading = Client::connect(gateway.address()).await;
        uploading.send(half_an_upload()).await;
        upstream.wait_until_in_flight(1).await;
        uploading.reset();
        upstream.wait_until_in_flight(0).await;
    }
    gateway.wait_until_idle().await;
    for class in ["read", "write"] {
        let circuit = circuit_of(&gateway, class).await;
        assert_eq!((&circuit["state"], &circuit["consecutive_failures"]), (&"closed".into(), &0.into()));
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// B4: a trial with a disconnected client returns its permit without an outcome
#[tokio::test]
async fn an_abandoned_trial_returns_its_permit() {
    let (upstream, fails) = switchable();
    let gateway = start(
        &upstream,
        &[
            ("failure_threshold", "1"),
            ("success_threshold", "1"),
            ("half_open_max_requests", "1"),
            ("timeout_seconds", "0.2"),
        ],
    )
    .await;
    let put = async || request(gateway.address(), "PUT", "/b/k", &[], Some(b"x")).await;
    assert_eq!(put().await.complete_status(), 500);
    tokio::time::sleep(Duration::from_millis(200)).await;
    wait_for("the open time has ended", || async {
        (circuit_of(&gateway, "write").await["open_for_ms"] == 0).then_some(())
    })
    .await;
    fails.store(false, Ordering::SeqCst);
    let mut trial = Client::connect(gateway.address()).await;
    trial.send(half_an_upload()).await;
    upstream.wait_until_in_flight(1).await;
    assert_eq!(put().await.reason(), "breaker_half_open", "the only trial is taken");
    trial.reset();
    upstream.wait_until_in_flight(0).await;
    wait_for("the permit is released", || async { (put().await.complete_status() == 200).then_some(()) })
        .await;
    assert_eq!(circuit_of(&gateway, "write").await["state"], "closed");
}

/// B3, E2, R1: a 200 that ends in an error document is a failure
#[tokio::test]
async fn an_error_document_inside_a_200_counts_as_a_failure() {
    let document = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>";
    let upstream = Upstream::start(move |_| {
        UpstreamReply::ok("  \n").then_body_after(Duration::from_millis(20), document).chunked()
    });
    let gateway = start(&upstream, &[]).await;
    for failures in 1..=2 {
        let answer = request(gateway.address(), "POST", "/b/k?uploadId=7", &[], Some(b"<Complete/>")).await;
        assert_eq!(
            (answer.complete_status(), answer.text().trim()),
            (200, document),
            "it is forwarded unchanged"
        );
        wait_for("it is counted", || async {
            (circuit_of(&gateway, "write").await["consecutive_failures"] == failures).then_some(())
        })
        .await;
    }
    assert_eq!(upstream.count(), 2, "a POST is not retried");
    let answer = request(gateway.address(), "GET", "/b/k?uploadId=7", &[], None).await;
    assert_eq!(answer.complete_status(), 200);
    assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"late_error\"}").await, 2.0);
}
