//! Kept connections over TLS that the upstream closes with a close_notify, with a bare FIN, or with a reset.

use std::collections::HashMap;
use std::sync::Mutex;

use super::kept_connections::{COUNTER, all_succeed, circuit_has_no_failures};
use super::tls::{Front, TlsClose};
use crate::support::{Gateway, Scratch, SeenRequest, Upstream, UpstreamReply, request, wait_for};

const CLOSES: [TlsClose; 3] = [TlsClose::CloseNotify, TlsClose::Abrupt, TlsClose::Reset];

/// An upstream that answers the second request of each connection with `second`, and closes.
fn closing(second: fn(&SeenRequest) -> UpstreamReply) -> Upstream {
    let requests = Mutex::new(HashMap::<usize, usize>::new());
    Upstream::start(move |seen| {
        let mut requests = requests.lock().unwrap();
        let number = requests.entry(seen.connection).or_default();
        *number += 1;
        if *number == 1 { UpstreamReply::ok("ok") } else { second(seen) }
    })
}

/// A gateway without retries before this upstream.
async fn gateway_before(upstream: &Upstream, close: TlsClose, directory: &Scratch) -> Gateway {
    let front = Front::in_front_of(upstream, close).await;
    front
        .trusted(directory)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.connection_pool.max_idle", "16")
        .set("server.workers", "1")
        .start()
        .await
}

/// P9: the second answer ends its connection, 1,000 requests each
#[tokio::test]
async fn no_request_fails_if_a_tls_connection_ends_after_an_answer() {
    for close in CLOSES {
        let upstream = closing(|seen| {
            let body = if seen.method == "HEAD" { "" } else { "ok" };
            UpstreamReply::raw(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}"))
        });
        let directory = Scratch::new();
        let gateway = gateway_before(&upstream, close, &directory).await;
        all_succeed(&gateway, 1_000, |_| std::time::Duration::ZERO).await;
        circuit_has_no_failures(&gateway).await;
        assert!(upstream.connections() >= 500, "{close:?}: {}", upstream.connections());
    }
}

/// P9, B3: the second request ends its connection without an answer, 1,000 requests each
#[tokio::test]
async fn a_request_on_a_closed_tls_connection_is_sent_again() {
    for close in CLOSES {
        let upstream = closing(|_| UpstreamReply::raw(""));
        let directory = Scratch::new();
        let gateway = gateway_before(&upstream, close, &directory).await;
        all_succeed(&gateway, 1_000, |_| std::time::Duration::ZERO).await;
        circuit_has_no_failures(&gateway).await;
        let resent = gateway.metric(COUNTER).await;
        assert!(resent > 300.0, "{close:?}: {resent} of 1,000 requests found a closed connection");
    }
}

/// P9, B3: what must not be sent twice is not, is refused with its reason, and counts for nothing
#[tokio::test]
async fn an_unsafe_request_on_a_closed_tls_connection_is_refused() {
    let cases = [
        ("POST", "/b/k?uploads", None),
        ("POST", "/b/k?uploadId=1", None),
        ("PUT", "/b/k", Some(("if-none-match", "*"))),
        ("PUT", "/b/k", Some(("if-match", "\"etag\""))),
        ("DELETE", "/b/k", Some(("if-match", "\"etag\""))),
    ];
    for close in CLOSES {
        let upstream = closing(|_| UpstreamReply::raw(""));
        let directory = Scratch::new();
        let gateway = gateway_before(&upstream, close, &directory).await;
        for (method, target, header) in cases {
            assert_eq!(gateway.get("/b/keep").await.complete_status(), 200);
            wait_for("an idle connection", || async {
                (gateway.metric("connection_pool_idle{bucket=\"b\"}").await >= 1.0).then_some(())
            })
            .await;
            let (before, counted) = (upstream.count(), gateway.metric(COUNTER).await);
            let body = (method != "DELETE").then_some(&b"<x/>"[..]);
            let answer = request(gateway.address(), method, target, header.as_slice(), body).await;
            let reason = "upstream_connection_reused_closed";
            assert_eq!((answer.status, answer.reason()), (502, reason), "{close:?} {method} {target}");
            assert_eq!((upstream.count(), gateway.metric(COUNTER).await), (before + 1, counted + 1.0));
        }
        circuit_has_no_failures(&gateway).await;
    }
}
