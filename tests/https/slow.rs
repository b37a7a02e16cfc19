//! Slow clients over TLS: the timeouts of cleartext apply, on HTTP/1.1 and on HTTP/2.

use std::time::Duration;

use bytes::Bytes;

use super::{Identity, head, read};
use crate::support::client::message;
use crate::support::{Upstream, UpstreamReply, random_bytes, wait_for};

const PAUSE: Duration = Duration::from_millis(100);

/// A7, T4: connections with a slow head, idle connections, and clients that read nothing of their answer are closed
#[tokio::test]
async fn slow_http_1_clients_are_closed() {
    let identity = Identity::new();
    let upstream = Upstream::start(|_| UpstreamReply::ok(random_bytes(32 << 20)));
    let gateway = identity
        .gateway_before(&upstream)
        .set("server.header_timeout", "0.5")
        .set("server.keep_alive", "1")
        .set("server.write_stall_timeout", "0.5")
        .start()
        .await;
    let mut trickling = identity.http1(&gateway).await;
    trickling.send("GET /b/k HTTP/1.1\r\nhost: a\r\n").await;
    assert!(trickling.try_response("GET").await.is_none_or(|answer| answer.status == 408));
    let mut idle = identity.http1(&gateway).await;
    idle.send(message("GET", "/-/livez", &[], None)).await;
    assert_eq!(idle.response("GET").await.complete_status(), 200);
    while idle.read_some().await.is_ok() {}
    assert_eq!(upstream.count(), 0);
    let mut stalled = identity.http1(&gateway).await;
    stalled.send(message("GET", "/b/k", &[], None)).await;
    assert_eq!(stalled.head().await.status, 200);
    gateway.wait_until_idle().await;
    wait_for("the upstream connection is closed", || async { (upstream.cancelled() == 1).then_some(()) })
        .await;
}

/// A7, T4: a slow body is 408, and over HTTP/2 only its own stream ends
#[tokio::test]
async fn a_body_that_trickles_in_is_cut_off() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("stored"));
    let gateway = identity
        .gateway_before(&upstream)
        .set("server.min_body_rate", "1000000")
        .set("server.min_body_rate_grace", "0.5")
        .start()
        .await;
    let mut client = identity.http1(&gateway).await;
    client.send("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await;
    for _ in 0..12 {
        tokio::time::sleep(PAUSE).await;
        if client.try_send("x").await.is_err() {
            break;
        }
    }
    assert_eq!(client.response("PUT").await.reason(), "timeout_body_rate");

    let client = identity.http2(&gateway).await;
    let (answer, mut sending) = client.begin("PUT", "/b/k", &[("content-length", "1000")], false).await;
    for _ in 0..12 {
        tokio::time::sleep(PAUSE).await;
        if sending.send_data(Bytes::from_static(b"x"), false).is_err() {
            break;
        }
    }
    let (mut answer, body) = head(answer).await.unwrap();
    // The stream may be reset after the answer, because its body is not read.
    let _ = read(body, &mut answer.body).await;
    assert_eq!((answer.status, answer.reason()), (408, "timeout_body_rate"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(client.get("/b/k").await.complete_status(), 200);
    gateway.wait_until_idle().await;
}
