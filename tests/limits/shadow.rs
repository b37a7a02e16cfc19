//! Rate limits in shadow mode, which refuse nothing.

use super::SLOW;
use crate::support::{Gateway, Upstream};

/// L6: a request over a shadow limit is forwarded and counted, and its answer names the limit; other limits count it
/// normally
#[tokio::test]
async fn a_shadow_limit_counts_and_names_itself() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.per_ip.requests_per_second", SLOW)
        .set("rate_limit.per_ip.burst", "2")
        .set("rate_limit.per_ip.mode", "shadow")
        .set("rate_limit.global.requests_per_second", SLOW)
        .set("rate_limit.global.burst", "1")
        .set("rate_limit.global.mode", "shadow")
        .set("buckets.b.rate_limit.requests_per_second", SLOW)
        .set("buckets.b.rate_limit.burst", "4")
        .start()
        .await;
    for shadow in [
        None,
        Some("rate_limit_global"),
        Some("rate_limit_global, rate_limit_ip"),
        Some("rate_limit_global, rate_limit_ip"),
    ] {
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.header("x-tidegate-shadow")), (200, shadow));
        assert_eq!(answer.header("ratelimit"), None, "a shadow limit has no ratelimit header");
    }
    let refused = gateway.get("/b/k").await;
    assert_eq!((refused.reason(), refused.header("x-tidegate-shadow")), ("rate_limit_bucket", None));
    for (limit, count) in [("global", 3.0), ("ip", 2.0)] {
        let name = format!("rate_limit_shadowed_total{{bucket=\"b\",limit=\"{limit}\"}}");
        assert_eq!(gateway.metric(&name).await, count, "{limit}");
    }
    assert!(!gateway.metrics().await.contains("limit=\"bucket\""), "the limit of the bucket is enforced");
    assert_eq!(
        gateway.metric("rate_limit_exceeded_total{bucket=\"b\"}").await,
        1.0,
        "no limit is exceeded in shadow mode"
    );
    assert_eq!(upstream.count(), 4);
}

/// L6, V7: the header is in the gateway's own answers too, and a store's header of this name is not forwarded
#[tokio::test]
async fn the_shadow_header_is_in_every_answer() {
    let upstream =
        Upstream::start(|_| crate::support::UpstreamReply::ok("x").header("x-tidegate-shadow", "made up"));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.max_request_size", "1000")
        .set("buckets.b.anonymous", "read")
        .set("rate_limit.per_ip.requests_per_second", SLOW)
        .set("rate_limit.per_ip.burst", "1")
        .set("rate_limit.per_ip.mode", "shadow")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.headers_named("x-tidegate-shadow"), Vec::<&str>::new());
    assert_eq!(gateway.get("/b/k").await.headers_named("x-tidegate-shadow"), ["rate_limit_ip"]);
    let denied = crate::support::put(gateway.address(), "/b/k", "x").await;
    assert_eq!((denied.complete_status(), denied.header("x-tidegate-shadow")), (403, Some("rate_limit_ip")));
}
