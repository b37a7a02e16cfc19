//! The header `Proxy-Status` of refusals (RFC 9209).

use crate::support::{Gateway, Upstream, UpstreamReply};

/// O4: a refusal has a registered error type beside its reason; probes and successes have no such header
#[tokio::test]
async fn a_refusal_has_a_registered_error_type() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .http_bucket("api", &upstream)
        .set("buckets.b.s3.circuit_breaker.mode", "forced_open")
        .start()
        .await;
    for (target, expected) in [
        ("/b/k", "tidegate;error=destination_unavailable;details=\"breaker_forced_open\""),
        ("/nowhere/k", "tidegate;error=destination_not_found;details=\"no_such_bucket\""),
        ("/b/a/../k", "tidegate;error=http_request_denied;details=\"path\""),
    ] {
        let answer = gateway.get(target).await;
        assert_eq!(answer.headers_named("proxy-status"), [expected], "{target}");
    }
    for target in ["/api/k", "/-/livez"] {
        let answer = gateway.get(target).await;
        assert_eq!((answer.complete_status(), answer.header("proxy-status")), (200, None), "{target}");
    }
}

/// O4: `server.proxy_status = false` switches it off, and the reason stays
#[tokio::test]
async fn the_header_can_be_switched_off() {
    let upstream =
        Upstream::start(|_| UpstreamReply::status(403).header("proxy-status", "cdn;error=dns_timeout"));
    let gateway = Gateway::builder().bucket("b", &upstream).set("server.proxy_status", "false").start().await;
    let answer = gateway.get("/nowhere/k").await;
    assert_eq!((answer.reason(), answer.header("proxy-status")), ("no_such_bucket", None));
    let answer = gateway.get("/b/k").await;
    assert_eq!(answer.headers_named("proxy-status"), ["cdn;error=dns_timeout"]);
}

/// O4: the members of an upstream's proxies stay, and the gateway's follows
#[tokio::test]
async fn the_members_of_an_upstream_stay() {
    let upstream = Upstream::start(|seen| {
        let status = if seen.target.ends_with("good") { 200 } else { 403 };
        UpstreamReply::status(status)
            .header("proxy-status", "origin-proxy;received-status=500")
            .header("proxy-status", "cdn;error=http_protocol_error")
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    let own = "tidegate;received-status=403";
    let others = ["origin-proxy;received-status=500", "cdn;error=http_protocol_error"];
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, ""));
    assert_eq!(answer.headers_named("proxy-status"), [others[0], others[1], own]);
    let answer = gateway.get("/b/good").await;
    assert_eq!(answer.headers_named("proxy-status"), others);
}

/// O4: the gateway's member stays readable: a value that is no list is removed, and so is a member with the gateway's name
#[tokio::test]
async fn forged_and_malformed_members_of_an_upstream_are_removed() {
    let upstream = Upstream::start(|_| {
        UpstreamReply::status(503)
            .header("proxy-status", "cdn;error=x\u{80}\u{ff}")
            .header("proxy-status", "cache;details=\"never ends")
            .header(
                "proxy-status",
                "tidegate;error=fake, other;details=\"a, tidegate\", \"Tidegate\";error=fake",
            )
            .header("proxy-status", "origin-proxy;error=dns_timeout")
    });
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.retry.max_attempts", "1").start().await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, ""));
    assert_eq!(
        answer.headers_named("proxy-status"),
        ["other;details=\"a, tidegate\"", "origin-proxy;error=dns_timeout", "tidegate;received-status=503"]
    );
}
