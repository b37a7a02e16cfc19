//! The gate: concurrency limit, wait queue, order, and release of permits.

use std::time::{Duration, Instant};

use super::{PATIENT, gated, held, queue_holds, spawn_get};
use crate::support::unreachable::RefusingAddress;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for, wait_until};

/// P3, P4: the gate is never exceeded, all requests are served in the end, and the gate is fully used
#[tokio::test]
async fn a_gate_of_ten_admits_ten_at_once() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_millis(20)));
    let gateway = gated(&upstream, 10, 100, PATIENT).start().await;
    let requests: Vec<_> = (0..60).map(|i| spawn_get(&gateway, format!("/b/{i}"))).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(upstream.peak_in_flight(), 10);
    gateway.wait_until_idle().await;
}

/// P3, P4: a spike over several endpoints and workers never exceeds the gate (HAProxy's limits can be exceeded, its
/// issue 2744)
#[tokio::test]
async fn a_spike_over_several_endpoints_stays_within_the_gate() {
    let latch = Latch::new();
    let upstreams = [(); 3].map(|()| {
        let latch = latch.clone();
        Upstream::start(move |_| UpstreamReply::ok("x").when_open(&latch))
    });
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let gateway = Gateway::builder()
        .bucket_at("b", &addresses)
        .set("server.workers", "4")
        .set("buckets.b.s3.concurrency.max_concurrent", "7")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "30000")
        .start()
        .await;
    let requests: Vec<_> = (0..100).map(|i| spawn_get(&gateway, format!("/b/{i}"))).collect();
    queue_holds(&gateway, 93).await;
    let sum = |of: fn(&Upstream) -> usize| upstreams.iter().map(of).sum::<usize>();
    for served in 0..5 {
        wait_until("the next request is sent", || sum(Upstream::count) == 7 + served).await;
        assert!(sum(Upstream::in_flight) <= 7);
        latch.open(1);
    }
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert!(upstreams.iter().all(|upstream| upstream.peak_in_flight() <= 7));
    gateway.wait_until_idle().await;
}

/// P3, O4: the queue is bounded: a further request is refused at once with its reason
#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 2, PATIENT).start().await;
    let first = spawn_get(&gateway, "/b/first");
    upstream.wait_until_in_flight(1).await;
    let waiting = [spawn_get(&gateway, "/b/second"), spawn_get(&gateway, "/b/third")];
    queue_holds(&gateway, 2).await;
    let refused = gateway.get("/b/fourth").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "queue_full"));
    assert!(matches!(refused.retry_after(), Some(1 | 2)), "{refused:?}");
    assert!(refused.text().contains("<Code>SlowDown</Code>"), "{}", refused.text());
    assert_eq!(gateway.metric("request_queue_depth").await, 2.0);
    assert_eq!(gateway.metric("request_queue_rejections_total{bucket=\"b\",reason=\"full\"}").await, 1.0);
    latch.open_for_all();
    assert_eq!(first.await.unwrap().complete_status(), 200);
    for request in waiting {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(upstream.count(), 3);
    gateway.wait_until_idle().await;
}

/// P3: without a queue a full gate fails fast; the metric of free permits is exact (HAProxy's `connslots` is -1 for a
/// backend without `maxqueue`, its issue 3242)
#[tokio::test]
async fn without_a_queue_a_full_gate_refuses_at_once() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 0, PATIENT).start().await;
    let first = spawn_get(&gateway, "/b/first");
    upstream.wait_until_in_flight(1).await;
    assert_eq!(gateway.get("/b/second").await.reason(), "queue_full");
    let pool = gateway.status().await["buckets"]["b"]["pool"].clone();
    assert_eq!([&pool["in_flight"], &pool["queued"], &pool["max_queued"]], [1, 0, 0]);
    latch.open_for_all();
    assert_eq!(first.await.unwrap().complete_status(), 200);
    gateway.wait_until_idle().await;
    assert_eq!(gateway.get("/b/third").await.complete_status(), 200);
}

/// P4: hand-off is direct and first come, first served: a freed permit goes to the first waiter, and newcomers queue
/// behind
#[tokio::test]
async fn a_freed_permit_goes_to_the_longest_waiter() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 100, PATIENT).start().await;
    let mut requests = vec![spawn_get(&gateway, "/b/0")];
    upstream.wait_until_in_flight(1).await;
    for i in 1..=5 {
        requests.push(spawn_get(&gateway, format!("/b/{i}")));
        queue_holds(&gateway, i).await;
    }
    for (served, request) in requests.into_iter().enumerate() {
        latch.open(1);
        assert_eq!(request.await.unwrap().complete_status(), 200);
        let order: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
        for (i, target) in order.iter().enumerate() {
            assert_eq!(*target, format!("/b/{i}"), "after {served} were served");
        }
    }
    assert_eq!((upstream.peak_in_flight(), upstream.count()), (1, 6));
    gateway.wait_until_idle().await;
}

/// P3: a request at its queue deadline is refused with its reason and leaves the queue
#[tokio::test]
async fn the_queue_has_a_deadline() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 100, Duration::from_millis(100)).start().await;
    let first = spawn_get(&gateway, "/b/first");
    upstream.wait_until_in_flight(1).await;
    let began = Instant::now();
    let late = gateway.get("/b/second").await;
    assert_eq!((late.complete_status(), late.reason()), (503, "queue_timeout"));
    assert!(began.elapsed() >= Duration::from_millis(100), "the request waited");
    assert!(matches!(late.retry_after(), Some(1 | 2)), "{late:?}");
    assert_eq!(gateway.metric("request_queue_rejections_total{bucket=\"b\",reason=\"timeout\"}").await, 1.0);
    latch.open_for_all();
    assert_eq!(first.await.unwrap().complete_status(), 200);
    assert_eq!(gateway.get("/b/third").await.complete_status(), 200);
    assert_eq!(upstream.count(), 2, "the expired request was not sent");
    gateway.wait_until_idle().await;
}

/// P4: a waiter that disconnects is removed from any position of the queue
#[tokio::test]
async fn a_disconnected_waiter_is_removed_from_the_queue() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 100, PATIENT).start().await;
    let first = spawn_get(&gateway, "/b/first");
    upstream.wait_until_in_flight(1).await;
    let mut leaving = Client::connect(gateway.address()).await;
    leaving.send(client::message("GET", "/b/leaves", &[], None)).await;
    queue_holds(&gateway, 1).await;
    let stays = spawn_get(&gateway, "/b/stays");
    queue_holds(&gateway, 2).await;
    drop(leaving);
    gateway.wait_for_log_line("request", |line| line["path"] == "/b/leaves").await;
    latch.open(1);
    assert_eq!(first.await.unwrap().complete_status(), 200);
    latch.open(1);
    assert_eq!(stays.await.unwrap().complete_status(), 200);
    let targets: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/b/first", "/b/stays"]);
    gateway.wait_until_idle().await;
}

/// P2, P4: a permit is held until the last byte of the answer, not the first
#[tokio::test]
async fn a_permit_is_held_until_the_last_byte() {
    let latch = Latch::new();
    let of_upstream = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/streams" => UpstreamReply::ok("begin").then_body_when_open(&of_upstream, "end"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = gated(&upstream, 1, 100, PATIENT).start().await;
    let mut streaming = Client::connect(gateway.address()).await;
    streaming.send(client::message("GET", "/b/streams", &[], None)).await;
    let mut answer = streaming.head().await;
    assert_eq!(answer.status, 200);
    let second = spawn_get(&gateway, "/b/second");
    queue_holds(&gateway, 1).await;
    let status = gateway.status().await;
    assert_eq!(status["requests_in_flight"], 2);
    assert_eq!(status["buckets"]["b"]["pool"]["in_flight"], 1);
    assert_eq!(upstream.count(), 1);
    latch.open_for_all();
    streaming.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    assert_eq!(second.await.unwrap().complete_status(), 200);
    gateway.wait_until_idle().await;
}

/// P4, T7: if all clients disconnect in mid-stream, all permits are released and the upstream connections closed
#[tokio::test]
async fn disconnects_in_mid_stream_release_everything() {
    let latch = Latch::new();
    let of_upstream = latch.clone();
    let upstream =
        Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&of_upstream, "end"));
    let gateway = gated(&upstream, 8, 8, PATIENT).start().await;
    for _ in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = Client::connect(gateway.address()).await;
            client.send(client::message("GET", "/b/k", &[], None)).await;
            assert_eq!(client.head().await.status, 200);
            clients.push(client);
        }
        assert_eq!(gateway.status().await["buckets"]["b"]["pool"]["in_flight"], 8);
        clients.into_iter().for_each(Client::reset);
        gateway.wait_until_idle().await;
        upstream.wait_until_in_flight(0).await;
        wait_for("their upstream connections are closed", || async {
            (upstream.open_connections() == 0).then_some(())
        })
        .await;
    }
    latch.open_for_all();
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// P2: over the process limit the answer is 503 at once for every bucket; below it requests are served again
#[tokio::test]
async fn the_process_has_a_request_limit() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 10, 10, PATIENT)
        .bucket("other", &upstream)
        .set("server.max_concurrent_requests", "3")
        .start()
        .await;
    let requests: Vec<_> = (0..3).map(|i| spawn_get(&gateway, format!("/b/{i}"))).collect();
    upstream.wait_until_in_flight(3).await;
    let refused = gateway.get("/other/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "too_many_requests_in_flight"));
    assert!(matches!(refused.retry_after(), Some(1 | 2)), "{refused:?}");
    assert_eq!(gateway.metric("concurrency_limit_rejections_total").await, 1.0);
    assert_eq!(gateway.admin("/readyz").await.complete_status(), 200, "health requests need no slot");
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    assert_eq!(gateway.get("/other/k").await.complete_status(), 200);
}

/// P5: several endpoints share the load, and one that refuses connections fails no request
#[tokio::test]
async fn endpoints_share_the_load_and_a_dead_one_is_skipped() {
    let (left, right) = (Upstream::ok("x"), Upstream::ok("x"));
    let dead = RefusingAddress::new();
    let gateway =
        Gateway::builder().bucket_at("b", &[left.address(), dead.address, right.address()]).start().await;
    for _ in 0..40 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!(left.count() + right.count(), 40);
    assert!(left.count() >= 5 && right.count() >= 5, "{} and {}", left.count(), right.count());
    let endpoints = &gateway.status().await["buckets"]["b"]["pool"]["endpoints"];
    assert_eq!(endpoints.as_array().unwrap().len(), 3);
}
