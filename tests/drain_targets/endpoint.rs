//! A draining endpoint gets no new call, and calls under way end normally.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Held, at, drain, drains, end, get, holding, of_endpoint, refusal, refused, wait_until_left};
use crate::status::{has_begun, has_ended};
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, wait_for, wait_until};

/// Sends so many requests, which all are answered 200.
async fn read(gateway: &Gateway, requests: usize) {
    for _ in 0..requests {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
}

/// P5, G4: new calls go to the other endpoint, a held one ends whole, and idle connections close. After it the endpoint is called again
#[tokio::test]
async fn a_draining_endpoint_gets_no_new_call() {
    let ((first, latch), second) = (holding("first"), Upstream::ok("second"));
    let gateway = at(&[&first, &second]).start().await;
    drain(&gateway, &of_endpoint(second.address())).await;
    let (ended, held) = (Held::begin(&gateway, "/b/held").await, Held::begin(&gateway, "/b/held").await);
    end(&gateway, &of_endpoint(second.address())).await;
    latch.open(1);
    ended.end().await;
    assert_eq!(first.open_connections(), 2, "one is idle");
    let before = first.count();
    let reply = drain(&gateway, &of_endpoint(first.address())).await;
    assert_eq!(reply["endpoint"], json!(first.address().to_string()));
    assert_eq!((&reply["requests_left"], &reply["was_draining"]), (&json!(1), &json!(false)), "{reply}");
    assert!(drains(&gateway).await[0]["oldest_ms"].is_u64());
    read(&gateway, 50).await;
    assert_eq!(first.count(), before);
    wait_until("its idle connections are closed", || first.open_connections() == 1).await;

    let cause = has_begun(&gateway, "endpoint_draining", "b").await;
    assert_eq!(cause["scope"]["name"], json!(first.address().to_string()), "{cause}");
    let status = gateway.status().await;
    assert_eq!(status["status"], "degraded");
    let endpoints = &status["buckets"]["b"]["pool"]["endpoints"];
    assert_eq!((&endpoints[0]["state"], endpoints[0]["drain"].is_object()), (&json!("in_rotation"), true));
    assert!(endpoints[1]["drain"].is_null());

    latch.open_for_all();
    held.end().await;
    wait_until_left(&gateway, 0).await;
    wait_until("its last connection is closed", || first.open_connections() == 0).await;
    assert_eq!(end(&gateway, &of_endpoint(first.address())).await["was_draining"], true);
    wait_for("it is called again", || async {
        gateway.get("/b/k").await;
        (first.count() > before).then_some(())
    })
    .await;
    has_ended(&gateway, "endpoint_draining", "b").await;
}

/// P5: if all endpoints drain, no request is sent to any, also not as the last one. The first that returns serves
#[tokio::test]
async fn nothing_is_sent_if_all_endpoints_drain() {
    let ((first, latch), second) = (holding("first"), Upstream::ok("second"));
    let gateway = at(&[&first, &second]).start().await;
    drain(&gateway, &of_endpoint(second.address())).await;
    let held = Held::begin(&gateway, "/b/held").await;
    drain(&gateway, &format!("{}&expires=600", of_endpoint(first.address()))).await;
    let before = (first.count(), second.count());
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "endpoints_draining"));
    assert!((590..=720).contains(&answer.retry_after().unwrap()), "{:?}", answer.retry_after());
    let cause = has_begun(&gateway, "endpoints_draining", "b").await;
    assert!(cause["message"].as_str().unwrap().starts_with("bucket b: all endpoints drain: "), "{cause}");
    assert_eq!(gateway.status().await["status"], "critical");
    assert_eq!((first.count(), second.count()), before);
    latch.open_for_all();
    held.end().await;
    end(&gateway, &of_endpoint(second.address())).await;
    assert_eq!(get(&gateway, "/b/k").await, (200, "second".to_owned()));
    assert_eq!(has_ended(&gateway, "endpoints_draining", "b").await["refused"], 1);
}

/// P5: requests that wait in the queue are refused when the last endpoint begins to drain
#[tokio::test]
async fn waiting_requests_are_refused_if_all_endpoints_drain() {
    let (upstream, latch) = holding("x");
    let gateway = at(&[&upstream]).set("buckets.b.s3.concurrency.max_concurrent", "1").start().await;
    let held = Held::begin(&gateway, "/b/held").await;
    let mut waiting = Client::connect(gateway.address()).await;
    waiting.send(client::message("GET", "/b/k", &[], None)).await;
    wait_for("it waits in the queue", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == 1).then_some(())
    })
    .await;
    drain(&gateway, &of_endpoint(upstream.address())).await;
    let answer = waiting.response("GET").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "endpoints_draining"));
    latch.open_for_all();
    held.end().await;
    assert_eq!(upstream.count(), 1);
}

/// R1, P5: a retry does not go to a draining endpoint; the endpoint that failed is called again
#[tokio::test]
async fn a_retry_does_not_go_to_a_draining_endpoint() {
    let (fails, drained) = (Upstream::start(|seen| failing_first(seen.number)), Upstream::ok("drained"));
    let gateway = at(&[&fails, &drained]).start().await;
    drain(&gateway, &of_endpoint(drained.address())).await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "retried"));
    assert_eq!((fails.count(), drained.count()), (2, 0));
}

fn failing_first(number: usize) -> UpstreamReply {
    if number == 1 { UpstreamReply::status(503) } else { UpstreamReply::ok("retried") }
}

/// R1, P5: a request that pauses before its retry leaves an endpoint that begins to drain meanwhile
#[tokio::test]
async fn a_retry_leaves_an_endpoint_that_begins_to_drain() {
    let is_bad = Arc::new(AtomicBool::new(true));
    let first = {
        let is_bad = Arc::clone(&is_bad);
        let bad = UpstreamReply::status(503).header("retry-after", "1");
        Upstream::start(
            move |_| if is_bad.load(Ordering::SeqCst) { bad.clone() } else { UpstreamReply::ok("first") },
        )
    };
    let second = Upstream::ok("second");
    let gateway = at(&[&first, &second]).start().await;
    drain(&gateway, &of_endpoint(second.address())).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    wait_until("the first attempt has failed", || first.count() == 1).await;
    end(&gateway, &of_endpoint(second.address())).await;
    drain(&gateway, &of_endpoint(first.address())).await;
    is_bad.store(false, Ordering::SeqCst);
    let answer = client.response("GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "second"));
    assert_eq!(first.count(), 1);
}

/// P5: the failures of the only endpoint that does not drain exclude nothing, and no call goes to the draining one
#[tokio::test]
async fn a_failing_endpoint_is_called_as_the_last_one() {
    let (fails, drained) = (Upstream::start(|_| UpstreamReply::status(500)), Upstream::ok("drained"));
    let gateway = at(&[&fails, &drained]).set("buckets.b.s3.circuit_breaker.mode", "off").start().await;
    drain(&gateway, &of_endpoint(drained.address())).await;
    for _ in 0..20 {
        assert_ne!(gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!(drained.count(), 0);
    end(&gateway, &of_endpoint(drained.address())).await;
    wait_for("the endpoint that works serves", || async {
        (gateway.get("/b/k").await.complete_status() == 200).then_some(())
    })
    .await;
}

/// P5: health checks of a draining endpoint go on, and their result holds after the drain
#[tokio::test]
async fn health_checks_go_on() {
    let is_healthy = Arc::new(AtomicBool::new(true));
    let checked = {
        let is_healthy = Arc::clone(&is_healthy);
        Upstream::start(move |_| match is_healthy.load(Ordering::SeqCst) {
            true => UpstreamReply::ok("checked"),
            false => UpstreamReply::status(500),
        })
    };
    let other = Upstream::ok("other");
    let gateway = at(&[&checked, &other])
        .set("buckets.b.s3.health_check.path", "/health")
        .set("buckets.b.s3.health_check.interval_seconds", "0.1")
        .start()
        .await;
    drain(&gateway, &of_endpoint(checked.address())).await;
    is_healthy.store(false, Ordering::SeqCst);
    wait_for("it is unhealthy", || async {
        let status = gateway.status().await;
        (status["buckets"]["b"]["pool"]["endpoints"][0]["state"] == "unhealthy").then_some(())
    })
    .await;
    assert!(checked.seen().iter().all(|seen| seen.target == "/health"));
    end(&gateway, &of_endpoint(checked.address())).await;
    read(&gateway, 20).await;
    assert!(checked.seen().iter().all(|seen| seen.target == "/health"), "it is still unhealthy");
}

/// R5, P5: a slow read is not hedged at a draining endpoint
#[tokio::test]
async fn a_hedge_does_not_go_to_a_draining_endpoint() {
    let slow = Upstream::start(|seen| match seen.target.contains("slow") {
        true => UpstreamReply::ok("slow").delayed(Duration::from_secs(1)),
        false => UpstreamReply::ok("fast"),
    });
    let drained = Upstream::ok("drained");
    let gateway = at(&[&slow, &drained])
        .set("buckets.b.s3.hedging.enabled", "true")
        .set("buckets.b.s3.hedging.percent", "100")
        .start()
        .await;
    drain(&gateway, &of_endpoint(drained.address())).await;
    read(&gateway, 250).await;
    let answer = gateway.get("/b/slow").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "slow"));
    assert_eq!(drained.count(), 0);
}

/// P5: a bucket with one endpoint, which caches permits on its threads, refuses at once
#[tokio::test]
async fn the_only_endpoint_drains() {
    let upstream = Upstream::ok("x");
    let gateway = at(&[&upstream]).set("buckets.b.s3.concurrency.max_concurrent", "200").start().await;
    read(&gateway, 10).await;
    drain(&gateway, &of_endpoint(upstream.address())).await;
    for _ in 0..10 {
        assert_eq!(refusal(&gateway, "/b/k").await, refused("endpoints_draining"));
    }
    assert_eq!(upstream.count(), 10);
    end(&gateway, &of_endpoint(upstream.address())).await;
    assert_eq!(get(&gateway, "/b/k").await, (200, "x".to_owned()));
}
