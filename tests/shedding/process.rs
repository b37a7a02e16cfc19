//! The cursor of the process: moved by slow event loops.

use std::cell::Cell;

use serde_json::Value;

use crate::config_errors::refused;
use crate::support::client::message;
use crate::support::{Client, Gateway, Response, Upstream, put, request, wait_for};

/// How long an event loop is blocked.
const STALL_MS: u64 = 120;
const STALL_MAX_MS: u64 = 2_000;
const STRANGER: [u8; 4] = [127, 0, 0, 3];

/// A gateway with one worker and a low target, in which reads have class low and writes class high.
async fn start(upstream: &Upstream, mode: &str) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .chaos()
        .set("server.workers", "1")
        .set("monitor.interval_ms", "50")
        .set("shedding.mode", mode)
        .set("shedding.target_wait_ms", "10")
        .set("buckets.b.s3.concurrency.priority.read", "low")
        .set("buckets.b.s3.concurrency.priority.write", "high")
        .start()
        .await
}

/// Blocks the worker's event loop for a moment.
async fn block(gateway: &Gateway) {
    block_for(gateway, STALL_MS).await;
}

async fn block_for(gateway: &Gateway, ms: u64) {
    let stalled = gateway.post(&format!("/actors/limiter/stall?ms={ms}")).await;
    assert_eq!(stalled.complete_status(), 202);
}

/// Blocks the event loop, each time for longer, until `look` returns a value. Waits in which the whole process had no CPU do not count,
/// and on a busy machine the first ones are such.
async fn block_until<T>(gateway: &Gateway, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let stall = Cell::new(STALL_MS);
    wait_for(what, async || {
        block_for(gateway, stall.get()).await;
        stall.set((stall.get() + STALL_MS / 4).min(STALL_MAX_MS));
        look().await
    })
    .await
}

/// X11, X1: a slow event loop refuses class low before authentication; class high, probes and status are served; the cursor
/// falls by itself
#[tokio::test]
async fn a_slow_event_loop_refuses_class_low() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream, "enforce").await;
    let shed: Response = block_until(&gateway, "a read is shed", async || {
        let answer = gateway.get("/b/k").await;
        (answer.reason() == "shed").then_some(answer)
    })
    .await;
    assert_eq!(shed.complete_status(), 503);
    assert!(shed.text().contains("<Code>SlowDown</Code>"), "{}", shed.text());
    assert!(matches!(shed.retry_after(), Some(1..=10)), "{shed:?}");
    let member = "tidegate;error=connection_limit_reached;details=\"shed\"";
    assert_eq!(shed.header("proxy-status"), Some(member));
    for _ in 0..10 {
        block(&gateway).await;
        assert_eq!(put(gateway.address(), "/b/k", b"x").await.complete_status(), 200);
        assert_eq!(gateway.get("/-/livez").await.complete_status(), 200);
    }
    let status = gateway.status().await;
    assert!(status["shedding"]["process"]["refused"].as_u64().unwrap() >= 1, "{status}");
    assert!(status["waits"]["event_loop"][0]["value_ms"].is_number(), "{status}");
    let answer = gateway.admin("/decisions?reason=shed").await;
    let decisions: Value = serde_json::from_slice(&answer.body).unwrap();
    let decision = &decisions["decisions"][0];
    assert_eq!((&decision["scope"], &decision["threshold"]), (&"process".into(), &10.into()), "{decision}");
    assert!(decision["measured"].as_f64().unwrap() > 10.0, "{decision}");
    assert_eq!(decision["config"]["key"], "shedding.target_wait_ms");
    let ended = "shed_requests_total{class=\"low\",scope=\"process\"}";
    assert!(gateway.metric(ended).await >= 1.0);
    wait_for("the cursor is 0 again", || async {
        (gateway.status().await["shedding"]["process"]["cursor"] == 0.0).then_some(())
    })
    .await;
}

/// X2, X11: after resource pressure the cursor is 0 when the level is normal, which is after its dwell time
#[tokio::test]
async fn the_cursor_is_0_when_the_level_is_normal() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).exhaust_at_half_of_descriptors().start().await;
    gateway.exhaust_descriptors();
    wait_for("the cursor cuts two classes", || async {
        let status = gateway.status().await;
        (status["shedding"]["process"]["cursor"].as_f64().unwrap() > 2.0).then_some(())
    })
    .await;
    assert_eq!(gateway.status().await["level"], "exhausted");
    gateway.limit_descriptors(1_000);
    let status = wait_for("the level is normal", || async {
        let status = gateway.status().await;
        (status["level"] == "normal").then_some(status)
    })
    .await;
    assert_eq!(status["shedding"]["process"]["cursor"], 0.0, "{status}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// X11: in shadow mode and when it is off, a slow event loop refuses nothing
#[tokio::test]
async fn shadow_and_off_refuse_nothing() {
    for mode in ["shadow", "off"] {
        let upstream = Upstream::ok("x");
        let gateway = start(&upstream, mode).await;
        for _ in 0..20 {
            block(&gateway).await;
            assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        }
        let process = async || gateway.status().await["shedding"]["process"].clone();
        if mode == "shadow" {
            block_until(&gateway, "requests would be refused", async || {
                assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
                process().await["shadowed"].as_u64().filter(|shadowed| *shadowed >= 3)
            })
            .await;
        } else {
            assert_eq!(process().await["shadowed"], 0);
        }
        let process = process().await;
        assert_eq!((&process["refused"], &process["mode"]), (&0.into(), &mode.into()), "{process}");
    }
}

/// G1: settings of shedding without effect, or that contradict the queue, are refused with their keys
#[test]
fn contradictions_are_refused() {
    let bucket = || {
        Gateway::builder()
            .set("buckets.b.auth", "anonymous")
            .set("buckets.b.s3.endpoints", "http://127.0.0.1:9000")
    };
    refused(
        bucket().set("buckets.b.s3.concurrency.shedding.target_wait_ms", "1001"),
        &[
            "concurrency.shedding.target_wait_ms: 1001 must be at most buckets.b.s3.concurrency.queue_timeout_ms (1000)",
        ],
    );
    let no_queue = bucket().set("buckets.b.s3.concurrency.max_queued", "0");
    refused(
        no_queue.set("buckets.b.s3.concurrency.shedding.mode", "shadow"),
        &["concurrency.shedding: has no effect: buckets.b.s3.concurrency.max_queued is 0"],
    );
    refused(
        bucket().set("shedding.mode", "on").set("shedding.target_wait_ms", "0"),
        &["shedding.mode", "enforce", "shadow", "off", "shedding.target_wait_ms"],
    );
}

/// X11, X6: requests that are refused before authentication are charged to their address, not to the key that they name
#[tokio::test]
async fn refused_requests_are_charged_to_their_address() {
    let upstream = Upstream::ok("x");
    let gateway = super::shedding(&upstream).set("server.workers", "1").start().await;
    let mut stranger = Client::connect_from(STRANGER, gateway.address(), None).await;
    for headers in [&[][..], &[("x-api-key", "unknown-0123456789abcdef")]] {
        let path = if headers.is_empty() { "/nowhere/k" } else { "/b/k" };
        for _ in 0..100 {
            stranger.send(message("GET", path, headers, None)).await;
            let answer = stranger.response("GET").await;
            assert!(matches!(answer.status, 400..=404), "{headers:?}: {answer:?}");
        }
    }
    for _ in 0..20 {
        let own = [("x-api-key", super::secret("light1"))];
        let answer = request(gateway.address(), "GET", "/b/k", &own, None).await;
        assert_eq!(answer.complete_status(), 200);
    }
    let status = gateway.status().await;
    let heaviest = &status["shedding"]["top_clients"][0];
    assert_eq!(heaviest["client"], "address 127.0.0.3", "{status}");
    assert!(heaviest["share"].as_f64().unwrap() > 0.5, "{status}");
}
