//! Uploads that stall because of the gateway or an upstream.

use std::time::Duration;

use bytes::Bytes;

use crate::https::{Identity, head};
use crate::support::client::sha256;
use crate::support::{Gateway, Upstream, UpstreamReply, random_bytes};

use super::raw::*;
use super::{EXTRA_BYTES_MAX, resident_bytes};

/// V9, T4: stalled uploads do not starve other uploads of their connection, and none gets `timeout_body_rate`
#[tokio::test]
async fn stalled_uploads_do_not_starve_others() {
    let identity = Identity::new();
    let stalled = Upstream::replying_before_body(|_| UpstreamReply::hang());
    let sound = Upstream::ok("stored");
    let gateway = identity
        .named(Gateway::builder().bucket("b", &sound).bucket("hung", &stalled))
        .set("buckets.hung.s3.concurrency.max_concurrent", "4")
        .set("buckets.hung.s3.concurrency.queue_timeout_ms", "25000")
        .set("server.min_body_rate", "1000000")
        .set("server.min_body_rate_grace", "1")
        .start()
        .await;
    let client = identity.http2(&gateway).await;
    assert_eq!(client.put("/b/first", b"x").await.complete_status(), 200);
    let idle = resident_bytes(&gateway);
    // More than the sockets on the way to the store buffer.
    let body = Bytes::from(random_bytes(24 << 20));
    let length = [("content-length", "25165824")];
    let mut stuck = Vec::new();
    // Four wait for the store, eight in the bucket's queue.
    for _ in 0..12 {
        let (answer, mut sending) = client.begin("PUT", "/hung/k", &length, false).await;
        sending.send_data(body.clone(), true).unwrap();
        stuck.push((answer, sending));
    }
    stalled.wait_until_in_flight(4).await;
    // Until the store's sockets and the streams' windows are full and the grace period has passed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let body = random_bytes(3 << 20);
    for _ in 0..3 {
        let answer = client.put("/b/k", &body).await;
        assert_eq!((answer.status, answer.reason()), (200, ""), "{}", answer.text());
        assert_eq!(sound.last().sha256(), sha256(&body));
    }
    let extra = resident_bytes(&gateway).saturating_sub(idle);
    assert!(extra < EXTRA_BYTES_MAX, "the gateway used {extra} bytes more than idle");
    let (answer, _sending) = stuck.pop().unwrap();
    let answered = tokio::time::timeout(Duration::from_millis(10), head(answer)).await;
    assert!(
        answered.is_err(),
        "a stuck upload was answered: {:?}",
        answered.map(|head| head.map(|head| head.0))
    );
    assert!(gateway.log_lines().iter().all(|line| line["reason"] != "timeout_body_rate"));
}

/// V9, T7: a refused upload of any size is reset with NO_ERROR after its answer
#[tokio::test]
async fn a_refused_upload_is_reset_behind_its_answer() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    raw.begin(1, &request("PUT", "/nowhere/k"), 0).await;
    raw.send(&frame(DATA, 0, 1, &[7; 10_000])).await;
    assert_eq!(raw.reset(1, "its unread body").await, 0);
    let seen = raw.seen();
    let place =
        |fits: &dyn Fn(&Frame) -> bool| seen.iter().position(|frame| frame.stream == 1 && fits(frame));
    let end = place(&|frame| frame.flags & END_STREAM != 0);
    assert!(end.is_some() && end < place(&|frame| frame.kind == RST_STREAM), "{seen:?}");
    // Late DATA is accepted, and the connection stays open.
    raw.send(&frame(DATA, 0, 1, &[7; 10_000])).await;
    raw.begin(3, &request("GET", "/b/k"), END_STREAM).await;
    raw.head(3).await;
    let client = identity.http2(&gateway).await;
    for _ in 0..3 {
        let answer = client.put("/nowhere/k", &random_bytes(4 << 20)).await;
        assert_eq!((answer.complete_status(), answer.reason()), (404, "no_such_bucket"));
    }
    assert_eq!(client.get("/b/k").await.complete_status(), 200);
}

/// V9, V1: `100 Continue` is sent when the body is needed, and not before a refusal
#[tokio::test]
async fn the_100_is_sent_when_the_body_is_needed() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("stored"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    let expect = [("expect", "100-continue"), ("content-length", "4")];
    let heads = |raw: &Raw, stream| {
        let seen = raw.seen().into_iter().filter(|frame| frame.kind == HEADERS && frame.stream == stream);
        seen.map(|frame| frame.payload).collect::<Vec<_>>()
    };
    raw.begin(1, &[&request("PUT", "/nowhere/k")[..], &expect].concat(), 0).await;
    raw.reset(1, "its unread body").await;
    // 404 has a static table index.
    assert_eq!(heads(&raw, 1).iter().map(|head| head[0]).collect::<Vec<_>>(), [0x8d]);
    raw.begin(3, &[&request("PUT", "/b/k")[..], &expect].concat(), 0).await;
    raw.head(3).await;
    // `:status: 100`, Huffman-coded.
    assert_eq!(heads(&raw, 3), [b"\x48\x82\x08\x01".to_vec()]);
    raw.send(&frame(DATA, END_STREAM, 3, b"body")).await;
    raw.wait("the answer's end", |frame| (frame.stream == 3 && frame.flags & END_STREAM != 0).then_some(()))
        .await;
    assert_eq!(heads(&raw, 3).iter().map(|head| head[0]).collect::<Vec<_>>(), [0x48, 0x88]);
    assert_eq!(upstream.last().body, b"body");
}

/// V9: tiny DATA frames of a queued upload are joined, and the upload is complete in the end
#[tokio::test]
async fn tiny_frames_are_joined_in_the_queue() {
    let (identity, latch) = (Identity::new(), crate::support::Latch::new());
    let held = latch.clone();
    // The first call holds the bucket's only permit; the second request's body waits in the gateway.
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/first" => UpstreamReply::ok("x").when_open(&held),
        _ => UpstreamReply::ok("stored"),
    });
    let gateway = identity
        .gateway_before(&upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "25000")
        .start()
        .await;
    let client = identity.http2(&gateway).await;
    let (first, _) = client.begin("GET", "/b/first", &[], true).await;
    upstream.wait_until_in_flight(1).await;
    let body = random_bytes(200_000);
    let length = [("content-length", "200000")];
    let (answer, mut sending) = client.begin("PUT", "/b/k", &length, false).await;
    for crumb in body.chunks(20) {
        sending.send_data(Bytes::copy_from_slice(crumb), false).unwrap();
    }
    sending.send_data(Bytes::new(), true).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    latch.open_for_all();
    assert_eq!(head(first).await.unwrap().0.status, 200);
    assert_eq!(head(answer).await.unwrap().0.status, 200);
    assert_eq!(upstream.last().sha256(), sha256(&body));
}
