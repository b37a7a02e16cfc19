//! Requests that cost more than one token.

use super::SLOW;
use crate::support::{Gateway, Response, Upstream, put, request};

async fn send_request(gateway: &Gateway, method: &str, target: &str) -> Response {
    match method {
        "PUT" => put(gateway.address(), target, "x").await,
        method => request(gateway.address(), method, target, &[], None).await,
    }
}

/// L1: a request costs its class's tokens; a request without enough tokens takes none, and its Retry-After states when
/// there are enough
#[tokio::test]
async fn a_listing_costs_more_than_a_read() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.cost.write", "4")
        .set("rate_limit.cost.list", "10")
        .set("rate_limit.per_ip.requests_per_second", "0.01")
        .set("rate_limit.per_ip.burst", "20")
        .start()
        .await;
    for (method, target) in
        [("GET", "/b/?list-type=2"), ("PUT", "/b/k"), ("HEAD", "/b/k"), ("GET", "/b/k?versionId=1")]
    {
        assert_eq!(send_request(&gateway, method, target).await.complete_status(), 200, "{method} {target}");
    }
    for _ in 0..3 {
        let refused = send_request(&gateway, "GET", "/b?prefix=a").await;
        assert_eq!((refused.complete_status(), refused.reason()), (429, "rate_limit_ip"));
        assert!(refused.header("ratelimit").unwrap().starts_with("\"ip\";r=4;t="), "{refused:?}");
        let wait = refused.retry_after().unwrap();
        assert!((590..=720).contains(&wait), "six tokens at 0.01 a second are 600 s away, not {wait}");
    }
    assert_eq!(
        send_request(&gateway, "DELETE", "/b/k").await.complete_status(),
        200,
        "refused listings took no token"
    );
    assert_eq!(send_request(&gateway, "GET", "/b/k").await.complete_status(), 429);
}

/// L1: a bucket may override costs, which apply to all limits; the other costs are inherited
#[tokio::test]
async fn a_bucket_may_override_costs() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("cheap", &upstream)
        .bucket("dear", &upstream)
        .set("rate_limit.cost.read", "2")
        .set("buckets.dear.rate_limit.cost.list", "7")
        .set("rate_limit.global.requests_per_second", SLOW)
        .set("rate_limit.global.burst", "12")
        .start()
        .await;
    for target in ["/dear", "/cheap", "/dear/k", "/cheap/k"] {
        assert_eq!(gateway.get(target).await.complete_status(), 200, "{target}");
    }
    assert_eq!(gateway.get("/cheap").await.reason(), "rate_limit_global", "7 + 1 + 2 + 2");
}

/// L1: a cost above a burst is a start-up error that names both config keys
#[test]
fn a_cost_above_a_burst_is_a_start_up_error() {
    for (cost, limit) in [
        ("rate_limit.cost.list", "rate_limit.global"),
        ("rate_limit.cost.list", "rate_limit.per_key"),
        ("rate_limit.cost.list", "buckets.b.rate_limit"),
        ("buckets.b.rate_limit.cost.list", "buckets.b.rate_limit"),
        ("buckets.b.rate_limit.cost.list", "rate_limit.per_ip"),
    ] {
        let ended = Gateway::builder()
            .set("buckets.b.s3.endpoints", "http://127.0.0.1:1")
            .set(cost, "11")
            .set(&format!("{limit}.requests_per_second"), "10")
            .run();
        let line = format!("{cost}: 11 is above {limit}.burst (10): every such request would be refused");
        assert!(ended.code != Some(0) && ended.stderr.contains(&line), "{line}\n{ended:?}");
        assert_eq!(ended.stderr.matches("is above").count(), 1, "{ended:?}");
    }
}
