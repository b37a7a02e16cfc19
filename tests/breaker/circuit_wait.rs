//! Requests that wait for an open circuit (`hold_ms`) instead of being refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{circuit_of, start};
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, client, request, wait_for};

/// One circuit for all operations: it opens after two failures for longer than any test runs, a successful connect
/// probe ends the open time, and requests wait for it.
async fn holding_builder(upstream: &Upstream, settings: &[(&str, &str)]) -> Gateway {
    let usual = [
        ("per_operation", "false"),
        ("failure_threshold", "2"),
        ("timeout_seconds", "600"),
        ("connect_probe_interval_ms", "20"),
        ("hold_ms", "20000"),
    ];
    let all: Vec<_> = usual.iter().chain(settings).copied().collect();
    start(upstream, &all).await
}

async fn circuit_opens(gateway: &Gateway) {
    wait_for("the circuit opens", || async {
        let failed = request(gateway.address(), "POST", "/b/k?restore", &[], Some(b"x")).await;
        assert!(failed.complete_status() >= 500);
        (circuit_of(gateway, "all").await["state"] == "open").then_some(())
    })
    .await;
}

async fn requests_are_held(gateway: &Gateway, requests: usize) {
    wait_for(&format!("{requests} requests are held"), || async {
        (circuit_of(gateway, "all").await["held"] == requests).then_some(())
    })
    .await;
}

type PendingResponse = tokio::task::JoinHandle<Response>;

fn spawn_request(gateway: &Gateway, method: &'static str, body: Option<&'static [u8]>) -> PendingResponse {
    let address = gateway.address();
    tokio::spawn(async move { request(address, method, "/b/k", &[], body).await })
}

async fn ended(gateway: &Gateway, result: &str) -> f64 {
    let labels = format!("{{bucket=\"b\",class=\"all\",result=\"{result}\"}}");
    gateway.metric(&format!("circuit_breaker_waits_ended_total{labels}")).await
}

/// B2: replayable requests wait for a refused port to come back, hold a slot but no permit of the bucket's gate, and
/// are served
#[tokio::test]
async fn held_requests_are_served_when_the_port_comes_back() {
    let upstream = Upstream::ok("x");
    let gateway = holding_builder(&upstream, &[]).await;
    upstream.stop().await;
    circuit_opens(&gateway).await;
    let waiting = [
        spawn_request(&gateway, "GET", None),
        spawn_request(&gateway, "HEAD", None),
        spawn_request(&gateway, "PUT", Some(b"small")),
        spawn_request(&gateway, "DELETE", None),
        spawn_request(&gateway, "GET", None),
    ];
    requests_are_held(&gateway, 5).await;
    let status = gateway.status().await;
    assert_eq!(
        (&status["buckets"]["b"]["pool"]["in_flight"], &status["requests_in_flight"]),
        (&0.into(), &5.into())
    );
    assert_eq!(gateway.metric("circuit_breaker_waiting{bucket=\"b\",class=\"all\"}").await, 5.0);
    upstream.start_again().await;
    for waiting in waiting {
        let answer = waiting.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(
        upstream.seen().iter().filter(|seen| seen.method == "PUT" && seen.body == b"small").count(),
        1
    );
    assert_eq!(ended(&gateway, "released").await, 5.0);
    gateway.wait_until_idle().await;
    assert_eq!(circuit_of(&gateway, "all").await["state"], "closed");
    let line = gateway.wait_for_log_line("request", |line| line["method"] == "HEAD").await;
    assert!(line["queue_us"].as_u64().unwrap() > 0, "the hold time is in the access log: {line}");
}

/// B2: beyond the hold limit requests get 503 at once, and the recovered upstream gets no more than the held ones at a
/// time
#[tokio::test]
async fn requests_beyond_the_hold_limit_are_refused_at_once() {
    let upstream = Upstream::ok("x");
    let gateway = holding_builder(&upstream, &[("max_held", "3")]).await;
    upstream.stop().await;
    circuit_opens(&gateway).await;
    let waiting: Vec<PendingResponse> = (0..3).map(|_| spawn_request(&gateway, "GET", None)).collect();
    requests_are_held(&gateway, 3).await;
    for _ in 0..20 {
        let refused = gateway.get("/b/k").await;
        assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_open"));
    }
    assert_eq!(circuit_of(&gateway, "all").await["max_held"], 3);
    upstream.start_again().await;
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().complete_status(), 200);
    }
    assert_eq!(upstream.count(), 3);
}

/// B2, T7: a client that disconnects while its request is held frees its place, and the request is never sent
#[tokio::test]
async fn a_disconnect_ends_the_hold() {
    let upstream = Upstream::ok("x");
    let gateway = holding_builder(&upstream, &[("max_held", "1")]).await;
    upstream.stop().await;
    circuit_opens(&gateway).await;
    let mut leaving = Client::connect(gateway.address()).await;
    leaving.send(client::message("GET", "/b/leaves", &[], None)).await;
    requests_are_held(&gateway, 1).await;
    leaving.reset();
    requests_are_held(&gateway, 0).await;
    assert_eq!(ended(&gateway, "left").await, 1.0);
    let stays = spawn_request(&gateway, "GET", None);
    requests_are_held(&gateway, 1).await;
    upstream.start_again().await;
    assert_eq!(stays.await.unwrap().complete_status(), 200);
    assert!(upstream.seen().iter().all(|seen| seen.target == "/b/k"), "{:?}", upstream.seen());
    gateway.wait_until_idle().await;
}

/// B2, R3: requests that are not replayable are refused at once: a POST, and a body that is not buffered whole
#[tokio::test]
async fn non_replayable_requests_are_not_held() {
    let upstream = Upstream::ok("x");
    let gateway = holding_builder(&upstream, &[]).await;
    upstream.stop().await;
    circuit_opens(&gateway).await;
    let large = vec![b'x'; 70_000];
    for (method, body) in [("POST", &b"x"[..]), ("PUT", &large)] {
        let refused = request(gateway.address(), method, "/b/k", &[], Some(body)).await;
        assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_open"), "{method}");
    }
    assert_eq!(gateway.metric("circuit_breaker_waits_total{bucket=\"b\",class=\"all\"}").await, 0.0);
}

/// B2: requests are not held for a circuit that is forced open
#[tokio::test]
async fn a_forced_open_circuit_holds_no_request() {
    let upstream = Upstream::ok("x");
    let gateway = holding_builder(&upstream, &[("mode", "forced_open")]).await;
    let refused = gateway.get("/b/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_forced_open"));
    assert_eq!((upstream.count(), ended(&gateway, "timed_out").await), (0, 0.0));
}

/// B2, R4: requests are not held if the circuit cannot close in time: after a Retry-After answer no connect probe ends
/// the open time
#[tokio::test]
async fn requests_are_not_held_for_a_longer_retry_after() {
    let upstream = Upstream::start(|_| UpstreamReply::status(503).header("retry-after", "500"));
    let gateway = holding_builder(&upstream, &[]).await;
    circuit_opens(&gateway).await;
    let calls = upstream.count();
    let refused = gateway.get("/b/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_open"));
    assert!(refused.retry_after().unwrap() > 400, "{refused:?}");
    assert_eq!((upstream.count(), ended(&gateway, "timed_out").await), (calls, 0.0));
}

/// B2: the end of the open time releases held requests, whatever opened the circuit
#[tokio::test]
async fn the_end_of_the_open_time_releases_held_requests() {
    let fails = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&fails);
    let upstream = Upstream::start(move |_| {
        if switch.load(Ordering::SeqCst) { UpstreamReply::status(500) } else { UpstreamReply::ok("x") }
    });
    let gateway = holding_builder(&upstream, &[("timeout_seconds", "2")]).await;
    circuit_opens(&gateway).await;
    fails.store(false, Ordering::SeqCst);
    let waiting: Vec<PendingResponse> = (0..8).map(|_| spawn_request(&gateway, "GET", None)).collect();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().complete_status(), 200);
    }
    assert_eq!(circuit_of(&gateway, "all").await["opened_total"], 1);
}

/// B2: a request that is held until `hold_ms` is refused like one that was not held
#[tokio::test]
async fn a_request_is_refused_after_hold_ms() {
    let upstream = Upstream::ok("x");
    let gateway = holding_builder(&upstream, &[("hold_ms", "100")]).await;
    upstream.stop().await;
    circuit_opens(&gateway).await;
    let refused = gateway.get("/b/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_open"));
    assert!(refused.retry_after().is_some());
    assert_eq!(ended(&gateway, "timed_out").await, 1.0);
    gateway.wait_until_idle().await;
}
