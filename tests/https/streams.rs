//! The end of HTTP/2 streams and connections, without leaks.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use super::{Http2, Identity, head, read};
use crate::support::{Latch, Upstream, UpstreamReply, WAIT_MAX, random_bytes, wait_for};

/// A7, T7: a stream reset cancels its request and no other
#[tokio::test]
async fn a_reset_cancels_the_request() {
    let identity = Identity::new();
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/hang" => UpstreamReply::hang(),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let (_answer, mut sending) = client.begin("GET", "/b/hang", &[], true).await;
    wait_for("the request is in flight", || async { (upstream.in_flight() == 1).then_some(()) }).await;
    sending.send_reset(Reason::CANCEL);
    wait_for("the upstream call is cancelled", || async { (upstream.cancelled() == 1).then_some(()) }).await;
    gateway.wait_until_idle().await;
    assert_eq!(client.get("/b/k").await.complete_status(), 200);
    gateway
        .wait_for_log_line("request", |line| line["path"] == "/b/hang" && line["reason"] == "client_gone")
        .await;
}

/// A7, T7: the end of a connection cancels all its requests
#[tokio::test]
async fn a_lost_connection_cancels_its_requests() {
    let (identity, upstream) = (Identity::new(), Upstream::start(|_| UpstreamReply::hang()));
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(client.begin("GET", "/b/k", &[], true).await);
    }
    wait_for("all requests are in flight", || async { (upstream.in_flight() == 3).then_some(()) }).await;
    client.ended.abort();
    wait_for("the upstream calls are cancelled", || async { (upstream.cancelled() == 3).then_some(()) })
        .await;
    gateway.wait_until_idle().await;
}

/// A7, T6: a transfer that breaks upstream resets its stream and no other
#[tokio::test]
async fn a_broken_transfer_resets_its_stream() {
    let (identity, latch) = (Identity::new(), Latch::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/cut" => UpstreamReply::ok(random_bytes(100_000)).cut_at(90_000),
        _ => UpstreamReply::ok("begin").then_body_when_open(&held, "end"),
    });
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let (other, _) = client.begin("GET", "/b/k", &[], true).await;
    let (mut other, body) = head(other).await.unwrap();
    let answer = client.get("/b/cut").await;
    assert_eq!(answer.status, 200);
    assert!(answer.broken.is_some(), "a truncated transfer looks complete");
    latch.open_for_all();
    read(body, &mut other.body).await.unwrap();
    assert_eq!(other.text(), "beginend");
}

/// A7, T4: a client that grants no window is cut, and its permits are released
#[tokio::test]
async fn a_client_without_window_is_cut() {
    let identity = Identity::new();
    let upstream = Upstream::start(|_| UpstreamReply::ok(random_bytes(4 << 20)));
    let gateway = identity.gateway_before(&upstream).set("server.write_stall_timeout", "0.5").start().await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1000);
    let client = Http2::over(identity.connect(&gateway, &["h2"]).await, &builder).await;
    let (answer, _) = client.begin("GET", "/b/k", &[], true).await;
    let (_, mut body) = head(answer).await.unwrap();
    let mut taken = 0;
    let broken = loop {
        match body.data().await {
            Some(Ok(piece)) => taken += piece.len(),
            Some(Err(error)) => break error,
            None => panic!("complete after {taken} bytes"),
        }
    };
    assert_eq!((taken, broken.reason()), (1000, Some(Reason::CANCEL)));
    gateway.wait_until_idle().await;
    wait_for("the upstream connection is closed", || async { (upstream.in_flight() == 0).then_some(()) })
        .await;
}

/// A7, T4: an idle connection gets GOAWAY, before its first request and after its last
#[tokio::test]
async fn an_idle_connection_gets_goaway() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    for (key, requests) in [("server.header_timeout", 0), ("server.keep_alive", 2)] {
        let gateway = identity.gateway_before(&upstream).set(key, "0.3").start().await;
        let client = identity.http2(&gateway).await;
        for _ in 0..requests {
            assert_eq!(client.get("/b/k").await.complete_status(), 200);
        }
        client.closed().await;
    }
}

/// A7: streams of one connection are served concurrently
#[tokio::test]
async fn streams_are_served_concurrently() {
    let (identity, latch) = (Identity::new(), Latch::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let mut begun = Vec::new();
    for _ in 0..40 {
        begun.push(client.begin("GET", "/b/k", &[], true).await.0);
    }
    wait_for("all requests are in flight", || async { (upstream.in_flight() == 40).then_some(()) }).await;
    latch.open_for_all();
    for answer in begun {
        assert_eq!(head(answer).await.unwrap().0.status, 200);
    }
}

/// A7, G4: a draining gateway sends GOAWAY, and finishes the requests in flight
#[tokio::test]
async fn a_draining_gateway_sends_goaway_and_finishes() {
    let (identity, latch) = (Identity::new(), Latch::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let mut gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let idle = identity.http2(&gateway).await;
    let (answer, _) = client.begin("GET", "/b/k", &[], true).await;
    let (mut answer, body) = head(answer).await.unwrap();
    gateway.send_sigterm();
    idle.closed().await;
    wait_for("no further stream is accepted", || async {
        client.requests.clone().ready().await.is_err().then_some(())
    })
    .await;
    latch.open_for_all();
    read(body, &mut answer.body).await.unwrap();
    assert_eq!(answer.text(), "beginend");
    client.closed().await;
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// A7, G4: the last answer of a draining connection is written before its end, also a slow one without a body
#[tokio::test]
async fn the_last_answer_of_a_draining_connection_is_written() {
    let (identity, latch) = (Identity::new(), Latch::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("").when_open(&held));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut waiting = Vec::new();
    for _ in 0..12 {
        let client = identity.http2(&gateway).await;
        let (answer, mut sending) = client.begin("PUT", "/b/k", &[("content-length", "1")], false).await;
        sending.send_data(Bytes::from_static(b"x"), true).unwrap();
        waiting.push((client, answer));
    }
    upstream.wait_until_in_flight(12).await;
    gateway.send_sigterm();
    // Longer than `GOAWAY_LINGER`, the time for a connection without requests after its GOAWAY.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    latch.open_for_all();
    for (_client, answer) in waiting {
        assert_eq!(head(answer).await.unwrap().0.status, 200);
    }
}

/// A7, V1, Bad input: invalid HTTP/2 ends the connection and is counted
#[tokio::test]
async fn invalid_http_2_ends_the_connection() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut client = crate::support::Client::new(identity.connect(&gateway, &["h2"]).await);
    client.send("GET /b/k HTTP/1.1\r\nhost: a\r\n\r\n, and so on, to be longer than a preface").await;
    while client.read_some().await.is_ok() {}
    gateway.wait_for_log_line("request", |line| line["reason"] == "malformed").await;
    assert_eq!(upstream.count(), 0);
}

/// A7, T7: an upload with a reset stream is never complete upstream
#[tokio::test]
async fn a_reset_upload_is_never_complete_upstream() {
    let (identity, upstream) = (Identity::new(), Upstream::replying_before_body(|_| UpstreamReply::hang()));
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let length = [("content-length", "2000000")];
    let (_answer, mut sending) = client.begin("PUT", "/b/k", &length, false).await;
    sending.send_data(Bytes::from(vec![7; 100_000]), false).unwrap();
    wait_for("the upload began", || async { (upstream.in_flight() == 1).then_some(()) }).await;
    sending.send_reset(Reason::CANCEL);
    wait_for("the upstream call is cancelled", || async { (upstream.open_connections() == 0).then_some(()) })
        .await;
    gateway.wait_until_idle().await;
    tokio::time::timeout(WAIT_MAX, client.get("/livez")).await.unwrap();
}
