//! Event streams end with the gateway as their protocol does; other answers are cut off and never look complete.

use std::time::Duration;

use serde_json::json;

use super::{begun, holding, streaming};
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, wait_for};

const EVENTS: &str = "text/event-stream";
/// The time between two pieces of a stream.
const PIECE_EVERY: Duration = Duration::from_millis(20);
const CUT: &str = "drain timeout reached: unfinished requests and connections are cut off";
const ENDED: &str = "drain timeout reached: event streams have ended as their protocol does";

fn quick(upstream: &Upstream) -> Builder {
    Gateway::builder().http_bucket("feeds", upstream).set("server.drain_timeout", "0.3")
}

/// G4: an event stream ends with its last chunk after a whole event; that is no failure of anyone
#[tokio::test]
async fn an_event_stream_ends_with_its_last_chunk() {
    let (feeds, _latch) = streaming(EVENTS, "data: 1\n\n");
    let mut gateway = quick(&feeds).set("log.decisions", "true").start().await;
    let (mut client, mut answer) = begun(&gateway, "/feeds/a").await;
    gateway.send_sigterm();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "data: 1\n\n"));
    assert!(client.is_closed().await, "the connection ends");
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    gateway.wait_for_log_line(ENDED, |line| line["streams"] == 1).await;
    let request = gateway.wait_for_log_line("request", |line| line["reason"] == "drained").await;
    assert_eq!((&request["status"], &request["sent_bytes"]), (&json!(200), &json!(9)));
    wait_for("the call is cancelled", || async { (feeds.cancelled() == 1).then_some(()) }).await;
    for unexpected in [CUT, "decision", "transfer broken"] {
        assert!(!gateway.log_lines().iter().any(|line| line["msg"] == unexpected), "{unexpected}");
    }
}

/// G4: a stream within an event goes on to the end of the event, and nothing of the next one is sent
#[tokio::test]
async fn a_stream_ends_after_a_whole_event() {
    // Each piece ends an event and begins the next one.
    let feeds = Upstream::start(|_| {
        let reply = UpstreamReply::ok("da").header("content-type", "text/event-stream; charset=utf-8");
        (0..2000).fold(reply, |reply, _| reply.then_body_after(PIECE_EVERY, "ta: x\n\nda")).chunked()
    });
    let mut gateway = quick(&feeds).start().await;
    let (mut client, mut answer) = begun(&gateway, "/feeds/a").await;
    gateway.send_sigterm();
    client.body(&mut answer, "GET").await;
    let events = answer.text();
    assert_eq!((answer.complete_status(), events.replace("data: x\n\n", "").as_str()), (200, ""), "{events}");
    assert!(!events.is_empty());
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4: without the end of an event the stream ends after a second, which is complete too
#[tokio::test]
async fn a_stream_within_an_event_ends_too() {
    let (feeds, _latch) = streaming(EVENTS, "data: 1\n\ndata: par");
    let mut gateway = quick(&feeds).start().await;
    let (mut client, mut answer) = begun(&gateway, "/feeds/a").await;
    gateway.send_sigterm();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "data: 1\n\ndata: par"));
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4, T6: beside an event stream that ends, a download with a length, an answer of another type without a length, and a compressed
/// event stream are cut off and counted
#[tokio::test]
async fn other_answers_are_cut_off() {
    let latch = Latch::new();
    let held = latch.clone();
    let feeds = Upstream::start(move |request| {
        let (kind, coding) = match request.target.as_str() {
            target if target.ends_with("json") => ("application/json", "identity"),
            target if target.ends_with("gzip") => (EVENTS, "gzip"),
            _ => (EVENTS, "identity"),
        };
        let reply =
            UpstreamReply::ok("x\n\n").header("content-type", kind).header("content-encoding", coding);
        reply.then_body_when_open(&held, "late").chunked()
    });
    let (photos, _photos_latch) = holding();
    let mut gateway = quick(&feeds).bucket("photos", &photos).start().await;
    let mut held = Vec::new();
    for (target, is_complete) in
        [("/feeds/events", true), ("/feeds/json", false), ("/feeds/gzip", false), ("/photos/a", false)]
    {
        let (client, answer) = begun(&gateway, target).await;
        held.push((target, is_complete, client, answer));
    }
    gateway.send_sigterm();
    for (target, is_complete, client, answer) in &mut held {
        client.body(answer, "GET").await;
        assert_eq!(answer.broken.is_none(), *is_complete, "{target}: {answer:?}");
    }
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    let line = gateway.wait_for_log_line(CUT, |_| true).await;
    assert_eq!((&line["cut_off"], &line["by_bucket"]), (&json!(3), &json!("feeds 2, photos 1")));
    let reasons = |reason: &str| {
        gateway.log_lines().iter().filter(|line| line["msg"] == "request" && line["reason"] == reason).count()
    };
    assert_eq!((reasons("drained"), reasons("drain_timeout")), (1, 3));
}

/// G4: an event stream that its client does not read is cut off and counted
#[tokio::test]
async fn a_stalled_event_stream_is_cut_off() {
    let latch = Latch::new();
    let held = latch.clone();
    // More than all socket buffers hold.
    let events = "data: a long event that nobody reads\n\n".repeat(1 << 20);
    let feeds = Upstream::start(move |_| {
        UpstreamReply::ok(&events).header("content-type", EVENTS).then_body_when_open(&held, "").chunked()
    });
    let mut gateway = quick(&feeds).start().await;
    let mut client = Client::connect_from([127, 0, 0, 1], gateway.address(), Some(8 << 10)).await;
    client.send(message("GET", "/feeds/a", &[], None)).await;
    let mut answer = client.head().await;
    let before = gateway.status().await;
    assert_eq!(before["requests_in_flight"], 1, "{before}");
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    let line = gateway.wait_for_log_line(CUT, |_| true).await;
    assert_eq!((&line["cut_off"], &line["by_bucket"]), (&json!(1), &json!("feeds 1")));
    gateway.wait_for_log_line("request", |line| line["reason"] == "drain_timeout").await;
    client.body(&mut answer, "GET").await;
    assert!(answer.broken.is_some(), "it looks complete");
}

/// G4: a stream that ends by itself within the time of the drain is complete, and its line has no reason
#[tokio::test]
async fn a_stream_that_ends_by_itself_is_complete() {
    let (feeds, latch) = streaming(EVENTS, "data: 1\n\n");
    let builder = Gateway::builder().http_bucket("feeds", &feeds).set("server.drain_timeout", "600");
    let mut gateway = builder.start().await;
    let (mut client, mut answer) = begun(&gateway, "/feeds/a").await;
    gateway.send_sigterm();
    gateway.wait_for_log_line("drain progress", |line| line["streams"] == 1).await;
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "data: 1\n\ndata: late\n\n"));
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    gateway.wait_for_log_line("request", |line| line["reason"].is_null()).await;
    assert!(!gateway.log_lines().iter().any(|line| line["msg"] == ENDED));
}
