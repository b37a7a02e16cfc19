//! Answers during a drain: completed ones that wait for their clients, and event streams.

use std::time::Duration;

use super::raw::*;
use crate::https::Identity;
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, random_bytes};

/// A draining gateway, and a client that grants no window for a completed answer.
async fn waiting(identity: &Identity, body: &[u8], drain_timeout: &str) -> (Gateway, Raw, Upstream) {
    let answer = body.to_vec();
    let upstream = Upstream::start(move |_| UpstreamReply::ok(&answer));
    let gateway = identity.gateway_before(&upstream).set("server.drain_timeout", drain_timeout).start().await;
    let mut raw = Raw::open(identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.begin(1, &request("GET", "/b/k"), END_STREAM).await;
    raw.head(1).await;
    gateway.wait_until_idle().await;
    gateway.send_sigterm();
    gateway.wait_for_log_line("draining", |line| line["in_flight"] == 0).await;
    (gateway, raw, upstream)
}

/// G4: an answer that was read ahead holds no slot, but the drain waits for its client
#[tokio::test]
async fn a_drain_waits_for_answers_without_window() {
    let (identity, body) = (Identity::new(), random_bytes(50_000));
    let (mut gateway, mut raw, _upstream) = waiting(&identity, &body, "600").await;
    raw.wait("a GOAWAY", |frame| (frame.kind == GOAWAY).then_some(())).await;
    // Longer than the threads may take to stop.
    tokio::time::sleep(Duration::from_secs(2)).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &50_000_u32.to_be_bytes())).await;
    raw.wait("the answer's end", |frame| (frame.kind == DATA && frame.flags & END_STREAM != 0).then_some(()))
        .await;
    let data = raw.seen().into_iter().filter(|frame| frame.kind == DATA);
    assert_eq!(data.flat_map(|frame| frame.payload).collect::<Vec<u8>>(), body);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4: after the drain timeout it is cut off; the log and the exit code show it
#[tokio::test]
async fn an_answer_is_cut_off_after_the_drain_timeout() {
    let (identity, body) = (Identity::new(), random_bytes(50_000));
    let (mut gateway, _raw, _upstream) = waiting(&identity, &body, "0.5").await;
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    let line = gateway
        .wait_for_log_line("drain timeout reached: unfinished requests and connections are cut off", |line| {
            line["cut_off"] == 1
        })
        .await;
    assert!(line["unsent_bytes"].as_u64().unwrap() >= 50_000, "{line}");
}

/// An event stream over HTTP/2 in a gateway that drains for a short time.
async fn event_stream(identity: &Identity, events: &str, window: u32) -> (Gateway, Raw, Upstream) {
    let (events, never) = (events.to_owned(), Latch::new());
    let upstream = Upstream::start(move |_| {
        let reply = UpstreamReply::ok(&events).header("content-type", "text/event-stream");
        reply.then_body_when_open(&never, "").chunked()
    });
    let gateway = identity.gateway_before(&upstream).set("server.drain_timeout", "0.5").start().await;
    let mut raw = Raw::open(identity, &gateway, &[(INITIAL_WINDOW_SIZE, window)]).await;
    raw.begin(1, &request("GET", "/b/k"), END_STREAM).await;
    raw.head(1).await;
    (gateway, raw, upstream)
}

/// G4: an event stream ends with END_STREAM when the drain timeout is over, after a GOAWAY that has it as the last stream; that is no
/// failure
#[tokio::test]
async fn an_event_stream_ends_with_end_stream() {
    let identity = Identity::new();
    let (mut gateway, mut raw, _upstream) = event_stream(&identity, "data: 1\n\n", 65_535).await;
    gateway.send_sigterm();
    let ping =
        raw.wait("a PING", |frame| (frame.kind == PING && frame.flags == 0).then(|| frame.payload.clone()));
    let ping = ping.await;
    raw.send(&frame(PING, 1, 0, &ping)).await;
    raw.wait("GOAWAY with the last stream", |frame| {
        (frame.kind == GOAWAY && frame.payload[..8] == [0, 0, 0, 1, 0, 0, 0, 0]).then_some(())
    })
    .await;
    raw.wait("the stream's end", |frame| (frame.kind == DATA && frame.flags & END_STREAM != 0).then_some(()))
        .await;
    let seen = raw.seen();
    let data = seen.iter().filter(|frame| frame.kind == DATA).flat_map(|frame| frame.payload.clone());
    assert_eq!(data.collect::<Vec<u8>>(), b"data: 1\n\n");
    assert!(!seen.iter().any(|frame| frame.kind == RST_STREAM), "{seen:?}");
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    gateway.wait_for_log_line("request", |line| line["reason"] == "drained").await;
}

/// G4: one that its client grants no window is cut off and counted
#[tokio::test]
async fn a_stalled_event_stream_is_cut_off() {
    let identity = Identity::new();
    let (mut gateway, raw, _upstream) = event_stream(&identity, "data: 1\n\n", 0).await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    let line = gateway
        .wait_for_log_line("drain timeout reached: unfinished requests and connections are cut off", |_| true)
        .await;
    assert_eq!((&line["cut_off"], &line["by_bucket"]), (&1.into(), &"b 1".into()));
    gateway.wait_for_log_line("request", |line| line["reason"] == "drain_timeout").await;
    let seen = raw.seen();
    assert!(!seen.iter().any(|frame| frame.kind == DATA), "{seen:?}");
}
