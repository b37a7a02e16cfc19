//! Upstreams with a slow or endless TLS handshake: the connect timeout covers it.

use std::time::Duration;

use super::tls::{Front, TlsClose};
use crate::support::link::{Link, LinkShape};
use crate::support::{Scratch, Upstream, UpstreamReply, wait_for};

/// T2, T3, B3: an upstream that accepts the connection and never answers the handshake causes a connect timeout. Envoy
/// has no handshake timeout unless one is set (`transport_socket_connect_timeout`)
#[tokio::test]
async fn a_handshake_that_stalls_is_a_connect_timeout() {
    let (directory, silent) = (Scratch::new(), Upstream::replying_before_body(|_| UpstreamReply::hang()));
    let front = Front::in_front_of(&silent, TlsClose::CloseNotify).await;
    let gateway = front
        .gateway_to(silent.address(), &directory)
        .set("buckets.b.s3.connect_timeout", "0.4")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "2")
        .start()
        .await;
    for _ in 0..2 {
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_connect"));
        wait_for("its connection is closed", || async { (silent.open_connections() == 0).then_some(()) })
            .await;
    }
    assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"upstream_connect_attempt\"}").await, 2.0);
    wait_for("the circuit is open", || async {
        (gateway.get("/b/k").await.reason() == "breaker_open").then_some(())
    })
    .await;
    gateway.wait_until_idle().await;
}

/// T2: a handshake over a slow link gets the connect timeout, and no more
#[tokio::test]
async fn a_slow_handshake_has_the_connect_timeout() {
    for (seconds, status, reason) in [("15", 200, ""), ("0.5", 504, "timeout_connect")] {
        let (directory, upstream) = (Scratch::new(), Upstream::ok("x"));
        let front = Front::in_front_of(&upstream, TlsClose::CloseNotify).await;
        let shape = LinkShape { latency: Duration::from_millis(100), bytes_per_second: 3000 };
        let link = Link::start(front.address, shape);
        let gateway = front
            .gateway_to(link.address, &directory)
            .set("buckets.b.s3.connect_timeout", seconds)
            .set("buckets.b.s3.retry.max_attempts", "1")
            .start()
            .await;
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.reason()), (status, reason), "{seconds} s");
    }
}
