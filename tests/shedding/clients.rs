//! Clients of one class: the excess of the heaviest is refused.

use std::time::Duration;

use serde_json::Value;

use super::{Flood, secret, shedding};
use crate::support::{Gateway, Response, Upstream, UpstreamReply, request};

async fn light(gateway: &Gateway, key: &str) -> Response {
    request(gateway.address(), "GET", "/b/light", &[("x-api-key", secret(key))], None).await
}

/// X11, X6: the heaviest client loses its excess, and light clients of the same class are served
#[tokio::test]
async fn the_heaviest_client_is_refused() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_millis(10)));
    let gateway =
        shedding(&upstream).set("buckets.b.s3.concurrency.shedding.target_wait_ms", "100").start().await;
    let flood = Flood::start(&gateway, "heavy", "/b/heavy", 40);
    flood.until_shed(40).await;
    let before = flood.counts();
    let (mut served, mut refused) = (0, 0);
    for _ in 0..40 {
        for key in ["light1", "light2"] {
            let answer = light(&gateway, key).await;
            if answer.status == 200 {
                served += 1;
            } else {
                assert_eq!(answer.reason(), "shed_bucket", "{answer:?}");
                refused += 1;
            }
        }
    }
    let after = flood.counts();
    let (heavy_served, heavy_shed) = (after.0 - before.0, after.1 - before.1);
    let status = gateway.status().await["shedding"].clone();
    let (of_heavy, _, other) = flood.end().await;
    // The refused part of the light clients is smaller than that of the heavy one.
    assert!(
        refused * (heavy_served + heavy_shed) < heavy_shed * (served + refused),
        "{served} served and {refused} refused, of the heavy client {heavy_served} and {heavy_shed}: {status}"
    );
    assert!(of_heavy > 0 && other == 0, "{of_heavy} {other}: {status}");
    let answer = gateway.admin("/decisions?reason=shed_bucket&bucket=b").await;
    let decisions: Value = serde_json::from_slice(&answer.body).unwrap();
    let detail_of = |one: &Value| one["detail"].as_str().unwrap().to_owned();
    let mut details = decisions["decisions"].as_array().unwrap().iter().map(detail_of);
    let newest = details.find(|detail| detail.contains("client key heavy")).unwrap();
    assert!(newest.ends_with("it has more than half of all traffic and is thinned"), "{newest}");
    assert_eq!(status["top_clients"][0]["client"], "key heavy", "{status}");
    assert!(status["top_clients"][0]["share"].as_f64().unwrap() > 0.5, "{status}");
}
