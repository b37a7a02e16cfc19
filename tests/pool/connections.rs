//! Upstream connections: their number, reuse and release.

use super::{PATIENT, gated, held, spawn_get};
use crate::support::client::{self, Client};
use crate::support::{Latch, Upstream, UpstreamReply, get, wait_for};

/// P1: connections are reused sequentially, and at most `max_idle` stay open
#[tokio::test]
async fn connections_are_reused_and_few_stay_idle() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 10, 10, PATIENT)
        .set("buckets.b.s3.connection_pool.max_idle", "2")
        .set("server.workers", "1")
        .start()
        .await;
    let requests: Vec<_> = (0..10).map(|i| spawn_get(&gateway, format!("/b/{i}"))).collect();
    upstream.wait_until_in_flight(10).await;
    assert_eq!(gateway.metric("connection_pool_active{bucket=\"b\"}").await, 10.0);
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    wait_for("at most two stay", || async { (upstream.open_connections() <= 2).then_some(()) }).await;
    assert_eq!(gateway.metric("connection_pool_size{bucket=\"b\"}").await, 50.0);
    assert_eq!(
        gateway.metric("connection_pool_idle{bucket=\"b\"}").await,
        upstream.open_connections() as f64
    );
    let opened = upstream.connections();
    for _ in 0..5 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!(upstream.connections(), opened, "five more requests opened no connection");
}

/// P1: with a wider gate the pool's connection limit holds over all workers together
#[tokio::test]
async fn all_workers_share_one_pool_of_connections() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 50, 50, PATIENT)
        .set("buckets.b.s3.connection_pool.size", "3")
        .set("server.workers", "4")
        .start()
        .await;
    let requests: Vec<_> = (0..12).map(|i| spawn_get(&gateway, format!("/b/{i}"))).collect();
    upstream.wait_until_in_flight(3).await;
    super::queue_holds(&gateway, 9).await;
    assert_eq!(gateway.metric("connection_pool_active{bucket=\"b\"}").await, 3.0);
    assert_eq!(upstream.connections(), 3);
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    assert_eq!((upstream.peak_in_flight(), upstream.count()), (3, 12));
}

/// P1: a pool of one connection serves the next request after a complete body, a truncated one, and a client disconnect
#[tokio::test]
async fn a_connection_is_released_however_its_body_ends() {
    let latch = Latch::new();
    let acts = vec![
        UpstreamReply::ok("whole"),
        UpstreamReply::ok("x".repeat(100_000)).cut_at(90_000),
        UpstreamReply::reset(),
        UpstreamReply::ok("begin").then_body_when_open(&latch, "end".repeat(1_000_000)),
        UpstreamReply::ok("whole"),
    ];
    let upstream = Upstream::sequence(acts);
    let gateway = gated(&upstream, 1, 1, PATIENT)
        .set("buckets.b.s3.connection_pool.size", "1")
        .set("buckets.b.s3.retry.max_attempts", "1")
        // A reset on the idle connection of another worker would be no failure.
        .set("server.workers", "1")
        .start()
        .await;
    assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200);
    assert!(get(gateway.address(), "/b/k").await.broken.is_some(), "a body that was cut");
    assert_eq!(get(gateway.address(), "/b/k").await.status, 502, "a connection that was reset");
    let mut leaving = Client::connect(gateway.address()).await;
    leaving.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(leaving.head().await.status, 200);
    drop(leaving);
    wait_for("the upstream connection is closed", || async { (upstream.cancelled() == 1).then_some(()) })
        .await;
    assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200, "the one place is free again");
    gateway.wait_until_idle().await;
    assert_eq!(gateway.metric("connection_pool_active{bucket=\"b\"}").await, 0.0);
    wait_for("one connection is kept", || async { (upstream.open_connections() == 1).then_some(()) }).await;
}
