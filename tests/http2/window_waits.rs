//! Streams of one connection that wait for flow-control window, and the permits that they hold.

use std::time::Duration;

use super::raw::*;
use crate::https::Identity;
use crate::support::{Upstream, UpstreamReply, random_bytes, wait_for};

/// Error code CANCEL.
const CANCEL: u32 = 8;

/// V10, V9: sixty answers without window, too large for the read-ahead, hold at most half of a bucket's permits; the
/// others are reset, and a client that reads loses nothing
#[tokio::test]
async fn streams_without_window_hold_half_of_a_bucket() {
    let (identity, upstream) = (
        Identity::new(),
        Upstream::start(|seen| {
            if seen.target == "/b/small" {
                UpstreamReply::ok("small")
            } else {
                UpstreamReply::ok(random_bytes(300_000))
            }
        }),
    );
    let gateway = identity
        .gateway_before(&upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "32")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "20000")
        .set("buckets.b.s3.concurrency.shedding.mode", "off")
        .start()
        .await;
    let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for stream in (1..121).step_by(2) {
        assert!(raw.begin(stream, &request("GET", "/b/large"), END_STREAM).await);
    }
    let neighbour = identity.http2(&gateway).await;
    for _ in 0..20 {
        assert_eq!(neighbour.get("/b/small").await.complete_status(), 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    wait_for("sixteen of sixty remain", || async {
        let resets = raw.seen().iter().filter(|frame| frame.kind == RST_STREAM).count();
        let in_flight = gateway.status().await["buckets"]["b"]["pool"]["in_flight"].as_u64();
        (resets == 44 && in_flight == Some(16)).then_some(())
    })
    .await;
    let resets = raw.seen().into_iter().filter(|frame| frame.kind == RST_STREAM);
    assert!(resets.clone().all(|frame| frame.payload == CANCEL.to_be_bytes()));
    assert!(!raw.has_ended(), "the connection stays open");
    gateway.wait_for_log_line("request", |line| line["reason"] == "slow_client").await;
    drop(raw);
    gateway.wait_until_idle().await;
}

/// V10: one-byte window updates are below the minimum rate
#[tokio::test]
async fn one_byte_window_updates_are_too_slow() {
    let (identity, upstream) =
        (Identity::new(), Upstream::start(|_| UpstreamReply::ok(random_bytes(300_000))));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.begin(1, &request("GET", "/b/k"), END_STREAM).await;
    raw.head(1).await;
    for _ in 0..12 {
        raw.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(raw.reset(1, "its rate").await, CANCEL);
    gateway.wait_for_log_line("request", |line| line["reason"] == "slow_client_rate").await;
    gateway.wait_until_idle().await;
}
