//! Completed answers that wait for their clients during a drain.

use std::time::Duration;

use super::raw::*;
use crate::https::Identity;
use crate::support::{Gateway, Upstream, UpstreamReply, random_bytes};

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
