//! Clients that grant no window or little, and clients that do not read.

use std::time::Duration;

use super::raw::*;
use super::{beside, is_counted_as_flood};
use crate::https::Identity;
use crate::support::{Upstream, UpstreamReply, random_bytes, wait_until};

/// V9, V10: small answers without window hold no permit of the bucket
#[tokio::test]
async fn answers_without_window_hold_no_permit() {
    let (identity, upstream) = (Identity::new(), Upstream::start(|_| UpstreamReply::ok(random_bytes(71))));
    let gateway = identity
        .gateway_before(&upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "4")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "10000")
        .start()
        .await;
    let raw = beside(&identity, &gateway, async || {
        let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        for stream in (1..101).step_by(2) {
            assert!(raw.begin(stream, &request("GET", "/b/k"), END_STREAM).await);
        }
        for stream in (1..101).step_by(2) {
            raw.head(stream).await;
        }
        raw
    })
    .await;
    gateway.wait_until_idle().await;
    assert!(raw.seen().iter().all(|frame| frame.kind != DATA));
}

/// V9: an answer that was read ahead is complete when the window is granted late
#[tokio::test]
async fn an_answer_waits_for_late_window() {
    let body = random_bytes(50_000);
    let answer = body.clone();
    let (identity, upstream) = (Identity::new(), Upstream::start(move |_| UpstreamReply::ok(&answer)));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.begin(1, &request("GET", "/b/k"), END_STREAM).await;
    raw.head(1).await;
    gateway.wait_until_idle().await;
    for part in [1_u32, 999, 49_000] {
        raw.send(&frame(WINDOW_UPDATE, 0, 1, &part.to_be_bytes())).await;
    }
    raw.wait("the answer's end", |frame| (frame.kind == DATA && frame.flags & END_STREAM != 0).then_some(()))
        .await;
    let data = raw.seen().into_iter().filter(|frame| frame.kind == DATA);
    assert_eq!(data.flat_map(|frame| frame.payload).collect::<Vec<u8>>(), body);
}

/// V9: a flood of one-byte window updates ends the connection
#[tokio::test]
async fn one_byte_window_updates_end_the_connection() {
    let (identity, upstream) =
        (Identity::new(), Upstream::start(|_| UpstreamReply::ok(random_bytes(60_000))));
    let gateway = identity.gateway_before(&upstream).start().await;
    let ended = beside(&identity, &gateway, async || {
        let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        for stream in (1..121).step_by(2) {
            raw.begin(stream, &request("GET", "/b/k"), END_STREAM).await;
        }
        let grants: Vec<u8> =
            (1..121).step_by(2).flat_map(|stream| frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])).collect();
        raw.flood(&grants, 2 << 20).await;
        raw.ended().await
    })
    .await;
    assert_eq!(ended, Some(ENHANCE_YOUR_CALM));
    is_counted_as_flood(&gateway).await;
    gateway.wait_until_idle().await;
}

/// V9, T4: answers are cut when the client grants window but does not read its socket
#[tokio::test]
async fn a_client_that_reads_nothing_is_cut() {
    let (identity, large) = (Identity::new(), random_bytes(8 << 20));
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/large" => UpstreamReply::ok(&large),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = identity.gateway_before(&upstream).set("server.write_stall_timeout", "1").start().await;
    let _raw = beside(&identity, &gateway, async || {
        let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, i32::MAX as u32)]).await;
        raw.send(&frame(WINDOW_UPDATE, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes())).await;
        raw.stop_reading();
        for stream in (1..17).step_by(2) {
            assert!(raw.begin(stream, &request("GET", "/b/large"), END_STREAM).await);
        }
        let called = || upstream.seen().iter().filter(|seen| seen.target == "/b/large").count();
        wait_until("all requests reach the upstream", || called() == 8).await;
        raw
    })
    .await;
    gateway.wait_until_idle().await;
    gateway
        .wait_for_log_line("request", |line| line["path"] == "/b/large" && line["reason"] == "write_stall")
        .await;
}

/// V9, T4: steady slow readers, and clients that wait for the upstream, are not cut
#[tokio::test]
async fn steady_and_waiting_clients_are_not_cut() {
    let identity = Identity::new();
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/events" => UpstreamReply::ok("begin").then_body_after(Duration::from_secs(3), "end"),
        _ => UpstreamReply::ok(random_bytes(200_000)),
    });
    let gateway = identity.gateway_before(&upstream).set("server.write_stall_timeout", "2").start().await;
    let waiting = identity.http2(&gateway).await;
    let steadily = async {
        let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        raw.begin(1, &request("GET", "/b/k"), END_STREAM).await;
        raw.head(1).await;
        raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 3, 0, 0])).await;
        for _ in 0..20 {
            raw.send(&frame(WINDOW_UPDATE, 0, 1, &10_000_u32.to_be_bytes())).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        raw.wait("the answer's end", |frame| {
            (frame.kind == DATA && frame.flags & END_STREAM != 0).then_some(())
        })
        .await;
        raw.seen().iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).sum::<usize>()
    };
    let (taken, answer) = tokio::join!(steadily, waiting.get("/b/events"));
    assert_eq!((taken, answer.complete_status(), answer.text().as_str()), (200_000, 200, "beginend"));
}
