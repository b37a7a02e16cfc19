//! Streams of HTTP/2 and event streams over an upgrade.

use bytes::Bytes;

use super::{Upgradable, with_slow_download};
use crate::https::{self, Identity};
use crate::support::client::{message, sha256};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, random_bytes, wait_for, wait_until};

/// The requests that this process has counted for bucket `b`.
async fn requests(gateway: &Gateway) -> f64 {
    let text = gateway.metrics().await;
    let counts = text.lines().filter(|line| line.starts_with("tidegate_requests_total{bucket=\"b\","));
    counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// G8: a download and an upload on one HTTP/2 connection end whole at the old process, GOAWAY refuses new streams there, and those of a new
/// connection are the new process's
#[tokio::test]
async fn http2_streams_end_whole() {
    let (upstream, latch) = with_slow_download();
    let identity = Identity::new();
    let mut running = Upgradable::start(identity.gateway_before(&upstream)).await;
    let connection = identity.http2(&running.gateway).await;
    let (answer, _) = connection.begin("GET", "/b/slow", &[], true).await;
    let (mut download, body) = https::head(answer).await.unwrap();
    // Longer than a body that is read whole, so the store has the head already.
    let (first, rest) = (vec![b'a'; 40 << 10], vec![b'z'; 8 << 10]);
    let length = (first.len() + rest.len()).to_string();
    let (uploaded, mut sending) =
        connection.begin("PUT", "/b/up", &[("content-length", &length)], false).await;
    sending.send_data(Bytes::from(first.clone()), false).unwrap();
    wait_for("both are under way", || async {
        (running.gateway.status().await["requests_in_flight"] == 2).then_some(())
    })
    .await;

    running.upgraded().await;
    let goaway = wait_for("GOAWAY", || connection.goaway()).await;
    assert_eq!(goaway, h2::Reason::NO_ERROR);
    wait_for("the predecessor reports both", || async {
        (running.gateway.status().await["predecessors"][0]["drain"]["requests"] == 2).then_some(())
    })
    .await;
    let other = identity.http2(&running.gateway).await;
    for _ in 0..3 {
        assert_eq!(other.get("/b/k").await.complete_status(), 200);
    }
    wait_for("the new process has counted them", || async {
        (requests(&running.gateway).await == 3.0).then_some(())
    })
    .await;

    latch.open_for_all();
    https::read(body, &mut download.body).await.unwrap();
    assert_eq!((download.complete_status(), download.text().as_str()), (200, "beginend"));
    sending.send_data(Bytes::from(rest.clone()), true).unwrap();
    assert_eq!(https::head(uploaded).await.unwrap().0.status, 200);
    let put = upstream.seen().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert_eq!(put.body, [first, rest].concat(), "whole");
    connection.closed().await;
    running.wait_for_end_of_predecessor().await;
    assert_eq!(other.get("/b/k").await.complete_status(), 200, "its connection stays");
}

/// G8, G4: an event stream of the old process that its client does not read is cut off at the drain timeout; the process ends, with the
/// exit code of cut off requests, and the new one serves
#[tokio::test]
async fn a_blocked_event_stream_ends_with_the_old_process() {
    let latch = Latch::new();
    let held = latch.clone();
    // More than all socket buffers hold.
    let events = "data: a long event that nobody reads\n\n".repeat(1 << 20);
    let feeds = Upstream::start(move |request| match request.target.as_str() {
        "/b/k" => UpstreamReply::ok("x"),
        _ => {
            let reply = UpstreamReply::ok(&events).header("content-type", "text/event-stream");
            reply.then_body_when_open(&held, "").chunked()
        }
    });
    let builder = Gateway::builder()
        .bucket("b", &feeds)
        .set("server.keep_alive", "1")
        .set("server.drain_timeout", "0.3");
    let mut running = Upgradable::start(builder).await;
    let mut client = Client::connect_from([127, 0, 0, 1], running.gateway.address(), Some(8 << 10)).await;
    client.send(message("GET", "/b/feed", &[], None)).await;
    let mut answer = client.head().await;
    running.upgraded().await;
    assert_eq!(running.gateway.wait_exit().await.code(), Some(1));
    let cut = "drain timeout reached: unfinished requests and connections are cut off";
    let line = running.gateway.wait_for_log_line(cut, |_| true).await;
    assert_eq!((&line["cut_off"], &line["by_bucket"]), (&1.into(), &"b 1".into()));
    running.gateway.wait_for_log_line("request", |line| line["reason"] == "drain_timeout").await;
    client.body(&mut answer, "GET").await;
    assert!(answer.broken.is_some(), "it looks complete");
    wait_until("the old process is known to have ended", || {
        running.gateway.log_lines().iter().any(|line| line["msg"] == "the predecessor has ended")
    })
    .await;
    assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
}

/// G8: a large download that passes through a pipe ends whole at the old process
#[tokio::test]
async fn a_large_download_ends_whole() {
    let body = random_bytes(12 << 20);
    let (first, rest) = body.split_at(4 << 20);
    let (first, rest) = (first.to_vec(), rest.to_vec());
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/b/large" => UpstreamReply::ok(&first).then_body_when_open(&held, &rest),
        _ => UpstreamReply::ok("x"),
    });
    let mut running = Upgradable::in_front_of(&upstream).await;
    let mut client = Client::connect(running.gateway.address()).await;
    client.send(message("GET", "/b/large", &[], None)).await;
    let mut answer = client.head().await;
    wait_for("bytes have passed through the pipe", || async {
        (running.gateway.metric("spliced_bytes_total").await > 0.0).then_some(())
    })
    .await;
    running.upgraded().await;
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
    drop(client);
    running.wait_for_end_of_predecessor().await;
}
