//! Floods of frames without progress: each ends its own connection and affects neither memory nor other clients.

use super::raw::*;
use super::{beside, is_counted_as_flood};
use crate::https::Identity;
use crate::support::{Upstream, UpstreamReply, wait_until};

/// Bytes of a flood after which the test fails.
const FLOOD_BYTES_MAX: usize = 6 << 20;

/// V9: empty DATA frames of an answered request are not stored, and end the connection
#[tokio::test]
async fn empty_frames_of_an_answered_request_end_the_connection() {
    for (path, status) in [("/nowhere/k", 404), ("/closed/k", 403)] {
        let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
        let gateway = identity
            .gateway_before(&upstream)
            .set("buckets.closed.auth", "sigv4")
            .set("buckets.closed.s3.endpoints", "http://127.0.0.1:9")
            .start()
            .await;
        let ended = beside(&identity, &gateway, async || {
            let mut raw = Raw::open(&identity, &gateway, &[(INITIAL_WINDOW_SIZE, 0)]).await;
            raw.begin(1, &request("PUT", path), 0).await;
            raw.head(1).await;
            raw.flood(&frame(DATA, 0, 1, b"").repeat(500), FLOOD_BYTES_MAX).await;
            raw.ended().await
        })
        .await;
        assert_eq!(ended, Some(ENHANCE_YOUR_CALM), "answered {status}");
        is_counted_as_flood(&gateway).await;
    }
}

/// V9: a flood of any frame type ends the connection
#[tokio::test]
async fn frames_without_progress_end_the_connection() {
    let identity = Identity::new();
    let upstream = Upstream::replying_before_body(|seen| {
        if seen.method == "PUT" { UpstreamReply::hang() } else { UpstreamReply::ok("x") }
    });
    let gateway = identity.gateway_before(&upstream).start().await;
    for (name, flood) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("WINDOW_UPDATE of the connection", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("WINDOW_UPDATE of a stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7])),
        ("an unknown type", frame(0xbe, 0, 0, b"")),
        ("a large unknown type", frame(0xbe, 0, 0, &[0; 16_000])),
        ("empty DATA", frame(DATA, 0, 1, b"")),
        ("DATA of padding", frame(DATA, 8, 1, &[7; 8])),
        ("DATA of one byte", frame(DATA, 0, 1, b"x")),
    ] {
        let ended = beside(&identity, &gateway, async || {
            let mut raw = Raw::open(&identity, &gateway, &[]).await;
            raw.begin(1, &request("PUT", "/b/hang"), 0).await;
            let batch = flood.repeat((8000 / flood.len()).max(1));
            raw.flood(&batch, FLOOD_BYTES_MAX).await;
            raw.ended().await
        })
        .await;
        assert_eq!(ended, Some(ENHANCE_YOUR_CALM), "{name}");
        gateway.wait_until_idle().await;
    }
    is_counted_as_flood(&gateway).await;
}

/// V9: an endless header block ends the connection
#[tokio::test]
async fn endless_continuations_end_the_connection() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    for payload in [&b""[..], &block(&[("x-a", &"v".repeat(100))]).repeat(150)] {
        let seen = upstream.count();
        let ended = beside(&identity, &gateway, async || {
            let mut raw = Raw::open(&identity, &gateway, &[]).await;
            raw.send(&frame(HEADERS, END_STREAM, 1, &block(&request("GET", "/b/flood")))).await;
            raw.flood(&frame(CONTINUATION, 0, 1, payload), FLOOD_BYTES_MAX).await;
            raw.ended().await
        })
        .await;
        assert_eq!(ended, Some(ENHANCE_YOUR_CALM), "of {} bytes", payload.len());
        assert!(upstream.seen()[seen..].iter().all(|seen| seen.target != "/b/flood"));
    }
}

/// V9, T7: a rapid reset attack ends the connection
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let identity = Identity::new();
    let upstream = Upstream::start(|seen| {
        if seen.target == "/b/hang" { UpstreamReply::hang() } else { UpstreamReply::ok("x") }
    });
    let gateway = identity.gateway_before(&upstream).start().await;
    let ended = beside(&identity, &gateway, async || {
        let mut raw = Raw::open(&identity, &gateway, &[]).await;
        let mut stream = 1;
        while stream < 40_000 && !raw.has_ended() {
            let mut batch = Vec::new();
            for _ in 0..10 {
                let head = block(&request("GET", "/b/hang"));
                batch.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
                batch.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                stream += 2;
            }
            raw.send(&batch).await;
            tokio::task::yield_now().await;
        }
        raw.ended().await
    })
    .await;
    assert_eq!(ended, Some(ENHANCE_YOUR_CALM));
    gateway.wait_until_idle().await;
    wait_until("the upstream calls are cancelled", || upstream.in_flight() == 0).await;
    is_counted_as_flood(&gateway).await;
}

/// V9, T7: a request that is reset in the same packet never reaches the upstream
#[tokio::test]
async fn a_request_that_is_reset_at_once_causes_no_call() {
    let identity = Identity::new();
    let upstream = Upstream::ok("x");
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    for round in 0..8 {
        let mut batch = Vec::new();
        for at in 0..10 {
            let stream = 1 + 2 * (round * 11 + at);
            let head = block(&request("GET", "/b/cancelled"));
            batch.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
            batch.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        }
        assert!(raw.send(&batch).await);
        let last = 1 + 2 * (round * 11 + 10);
        assert!(raw.begin(last, &request("GET", "/b/k"), END_STREAM).await);
        raw.head(last).await;
    }
    assert!(upstream.seen().iter().all(|seen| seen.target == "/b/k"), "a cancelled request was forwarded");
    assert_eq!(upstream.count(), 8);
}

/// V9: header blocks that repeat one large indexed field end the connection
#[tokio::test]
async fn header_blocks_that_expand_end_the_connection() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let ended = beside(&identity, &gateway, async || {
        let mut raw = Raw::open(&identity, &gateway, &[]).await;
        // A field of 3,800 bytes goes into the dynamic table; each octet 0xbe behind it is the field again.
        let mut first = block(&request("GET", "/b/bomb"));
        first.extend(b"\x40\x03x-a\x7f\xd9\x1c");
        first.extend([b'v'; 3800]);
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &first)).await;
        raw.head(1).await;
        let mut bomb = block(&request("GET", "/b/bomb"));
        bomb.extend([0xbe; 16_000]);
        let mut stream = 3;
        while stream < 2000 && !raw.has_ended() {
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)).await;
            stream += 2;
        }
        raw.ended().await
    })
    .await;
    assert_eq!(ended, Some(ENHANCE_YOUR_CALM));
    assert!(upstream.seen().iter().filter(|seen| seen.target == "/b/bomb").count() <= 1);
    is_counted_as_flood(&gateway).await;
}

/// V9: pings, window updates and resets beside answered requests are allowed
#[tokio::test]
async fn ordinary_frames_are_not_a_flood() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).start().await;
    let mut raw = Raw::open(&identity, &gateway, &[]).await;
    for stream in (1..400).step_by(2) {
        assert!(raw.send(&frame(PING, 0, 0, &[0; 8])).await);
        assert!(raw.begin(stream, &request("GET", "/b/k"), END_STREAM).await);
        raw.head(stream).await;
        assert!(raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await);
        assert!(raw.send(&frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 7])).await);
        assert!(raw.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).await);
    }
    assert!(!raw.has_ended());
}
