//! Causes of the process: crashed actors, requests in flight, events of the document.

use futures_util::future::join_all;
use serde_json::json;

use super::{cause_that_refused, causes, has_begun, has_ended};
use crate::supervision::restart_delay::hold_down;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// X10, S4: a limiter that is held down refuses requests; the cause has their number, and ends by itself
#[tokio::test]
async fn a_failed_limiter_has_its_refusals() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("admin.chaos", "true")
        .set("rate_limit.per_ip.requests_per_second", "1000")
        .start()
        .await;
    hold_down(&gateway, "limiter").await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/b/k").await.reason(), "limiter_unavailable");
    }
    let failed = cause_that_refused(&gateway, "limiter_failed", 5).await;
    assert_eq!(failed["scope"], json!({ "kind": "actor", "bucket": null, "name": "limiter" }));
    assert!(failed["until"].is_string(), "{failed}");
    has_begun(&gateway, "limiter_failed", "process").await;
    // The delays of earlier crashes are causes of their own, without refusals.
    assert_eq!(has_ended(&gateway, "limiter_failed", "process").await["refused"], 5);
}

/// X10, S4: a pool that is held down refuses the requests of its bucket; the cause has their number, and ends by itself
#[tokio::test]
async fn a_failed_pool_has_its_refusals() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.chaos", "true").start().await;
    hold_down(&gateway, "pool:b").await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.reason(), "pool_unavailable");
    }
    let failed = cause_that_refused(&gateway, "pool_failed", 3).await;
    assert_eq!(failed["scope"], json!({ "kind": "actor", "bucket": "b", "name": "pool:b" }));
    assert!(failed["until"].is_string(), "{failed}");
    assert_eq!(failed["measured"]["unit"], "restarts since the start", "{failed}");
    has_begun(&gateway, "pool_failed", "b").await;
    assert_eq!(has_ended(&gateway, "pool_failed", "b").await["refused"], 3);
}

/// X10, S4: an actor that is held down and refuses no request of its own is a cause with its end
#[tokio::test]
async fn a_failed_monitor_is_a_cause() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.chaos", "true").start().await;
    hold_down(&gateway, "monitor").await;
    let failed = has_begun(&gateway, "actor_failed", "process").await;
    assert_eq!(failed["scope"], json!({ "kind": "actor", "bucket": null, "name": "monitor" }));
    assert_eq!(failed["effect"]["text"], "the last resource level stays in force");
    assert!(failed["until"].is_string() && failed["measured"]["value"].as_f64() >= Some(5.0), "{failed}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(has_ended(&gateway, "actor_failed", "process").await["refused"], 0);
}

/// X10, S2: a crash between two samples is a cause with the name of the actor
#[tokio::test]
async fn a_crashed_actor_is_a_cause() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    gateway.crash("pool:b", "decide").await;
    let restarting = has_begun(&gateway, "actor_restarting", "b").await;
    assert_eq!(restarting["scope"], json!({ "kind": "actor", "bucket": "b", "name": "pool:b" }));
    assert_eq!(restarting["measured"], json!({ "value": 1.0, "unit": "restarts" }));
    has_ended(&gateway, "actor_restarting", "b").await;
}

/// X10, S8: an actor with waiting messages and no progress is a cause until it continues
#[tokio::test]
async fn a_stalled_actor_is_a_cause() {
    let upstream = Upstream::ok("x");
    // Requests on the other threads keep calling it.
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().set("server.workers", "4").start().await;
    assert_eq!(gateway.post("/actors/pool:b/stall?ms=4000").await.complete_status(), 202);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut pending = Client::connect(gateway.address()).await;
        pending.send(client::message("GET", "/b/k", &[], None)).await;
        waiting.push(pending);
    }
    let stalled = has_begun(&gateway, "actor_stalled", "b").await;
    assert_eq!(stalled["scope"], json!({ "kind": "actor", "bucket": "b", "name": "pool:b" }));
    has_ended(&gateway, "actor_stalled", "b").await;
}

/// X10, S7: a full mailbox is a cause with exactly the requests that clients saw refused
#[tokio::test]
async fn a_full_mailbox_is_a_cause() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("supervision.mailbox_capacity", "1")
        .set("rate_limit.global.requests_per_second", "1000000")
        .set("rate_limit.global.burst", "1000")
        .set("buckets.b.s3.concurrency.max_queued", "1000")
        .start()
        .await;
    let mut answers = Vec::new();
    // The number of concurrent requests depends on the scheduler; some of so many always overlap.
    for _ in 0..5 {
        answers.extend(join_all((0..64).map(|_| gateway.get("/b/k"))).await);
    }
    let mut found = 0;
    for (actor, reason) in [("limiter", "limiter_unavailable"), ("pool:b", "pool_unavailable")] {
        let refused = answers.iter().filter(|answer| answer.reason() == reason).count();
        if refused == 0 {
            continue;
        }
        found += 1;
        wait_for(&format!("the mailbox of {actor} has refused {refused}"), || async {
            let causes = causes(&gateway, "mailbox_full").await;
            let cause = causes.iter().find(|cause| cause["scope"]["name"] == actor)?;
            (cause["effect"]["refused"] == refused).then_some(())
        })
        .await;
    }
    assert!(found > 0, "no mailbox was full");
}

/// X10, S7: the mailbox of a stalled pool is full; the cause ends three seconds after the last refused message
#[tokio::test]
async fn a_full_mailbox_has_an_end() {
    let upstream = Upstream::ok("x");
    // Requests on the other threads keep calling the pool.
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("server.workers", "4")
        .set("supervision.mailbox_capacity", "1")
        .start()
        .await;
    assert_eq!(gateway.post("/actors/pool:b/stall?ms=2000").await.complete_status(), 202);
    let answers = join_all((0..16).map(|_| gateway.get("/b/k"))).await;
    assert!(answers.iter().any(|answer| answer.reason() == "pool_unavailable"), "{answers:?}");
    let full = has_begun(&gateway, "mailbox_full", "b").await;
    assert_eq!(full["scope"], json!({ "kind": "actor", "bucket": "b", "name": "pool:b" }));
    assert_eq!(full["threshold"], json!({ "value": 1.0, "unit": "messages" }));
    let measured = &full["measured"];
    assert!(measured["unit"] == "messages" && measured["value"].as_f64() >= Some(1.0), "{full}");
    let ended = has_ended(&gateway, "mailbox_full", "b").await;
    assert!(ended["lasted_ms"].as_u64().unwrap() >= 3_000, "{ended}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// X4, X10: sensors that are not read are a cause, and the document is served meanwhile
#[tokio::test]
async fn stale_sensors_are_a_cause() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    assert_eq!(gateway.post("/actors/monitor/stall?ms=4000").await.complete_status(), 202);
    let stale = has_begun(&gateway, "sensors_stale", "process").await;
    assert_eq!((&stale["severity"], &stale["scope"]["kind"]), (&"degraded".into(), &"process".into()));
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "stale sensors shed nothing");
    has_ended(&gateway, "sensors_stale", "process").await;
}

/// X10, P2: requests above the cap in flight are a critical cause with their number
#[tokio::test]
async fn a_full_process_is_a_cause() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("server.max_concurrent_requests", "1").start().await;
    let mut first = Client::connect(gateway.address()).await;
    first.send(client::message("GET", "/b/held", &[], None)).await;
    upstream.wait_until_in_flight(1).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.reason(), "too_many_requests_in_flight");
    }
    let full = cause_that_refused(&gateway, "in_flight_full", 3).await;
    assert_eq!((&full["scope"]["kind"], &full["threshold"]["value"]), (&"process".into(), &1.0.into()));
    assert_eq!(gateway.status().await["status"], "critical");
    has_begun(&gateway, "in_flight_full", "process").await;
    latch.open_for_all();
    assert_eq!(first.response("GET").await.complete_status(), 200);
    assert_eq!(has_ended(&gateway, "in_flight_full", "process").await["refused"], 3);
}

/// X10: the worst cause is the first one, and the summary names it; events have numbers without a gap
#[tokio::test]
async fn the_worst_cause_is_the_first() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("admin.chaos", "true")
        .set("buckets.b.s3.circuit_breaker.mode", "forced_open")
        .start()
        .await;
    let forced = has_begun(&gateway, "circuit_forced_open", "b").await;
    has_begun(&gateway, "chaos", "process").await;
    let status = gateway.status().await;
    let codes: Vec<_> = status["causes"].as_array().unwrap().iter().map(|cause| &cause["code"]).collect();
    assert_eq!(codes, ["circuit_forced_open", "chaos"]);
    let summary = status["summary"].as_str().unwrap();
    let message = forced["message"].as_str().unwrap();
    assert!(
        summary.starts_with("1 critical cause and 1 degrading cause.") && summary.contains(message),
        "{summary}"
    );
    let numbers: Vec<_> = status["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!((numbers, &status["sequence"]), (vec![1, 2], &2.into()));
}
