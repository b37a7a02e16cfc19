//! Forwarding headers for requests over TLS.

use super::Identity;
use crate::support::Upstream;
use crate::support::client::message;

/// V13, A7: the forwarded protocol is the connection's and not a header's, and `Via` has the request's HTTP version
#[tokio::test]
async fn the_protocol_of_the_connection_is_sent() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("buckets.b.forwarded", "set").start().await;
    let claims = [("x-forwarded-proto", "http"), ("x-forwarded-host", "evil.test")];
    let mut http1 = identity.http1(&gateway).await;
    http1.send(message("GET", "/b/k", &claims, None)).await;
    assert_eq!(http1.response("GET").await.complete_status(), 200);
    let sent = |names: [&str; 4]| names.map(|name| upstream.last().headers_named(name).join("|"));
    let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via"];
    assert_eq!(sent(names), ["127.0.0.1", "https", "gateway.test", "1.1 tidegate"]);
    let http2 = identity.http2(&gateway).await;
    assert_eq!(http2.exchange("GET", "/b/k", &claims, None).await.complete_status(), 200);
    assert_eq!(sent(names), ["127.0.0.1", "https", "gateway.test", "2 tidegate"]);
}
