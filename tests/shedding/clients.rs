//! Clients of one class: the excess of the heaviest is refused.

use std::time::Duration;

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
    let before = flood.shed();
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
    let heavy = flood.shed() - before;
    let status = gateway.status().await["shedding"].clone();
    let (of_heavy, _, other) = flood.end().await;
    assert!(served >= 76 && refused <= 4, "{served} served, {refused} refused: {status}");
    assert!(heavy > 20 && of_heavy > 0 && other == 0, "{heavy} of the heavy client are refused: {status}");
    assert_eq!(status["top_clients"][0]["client"], "key heavy", "{status}");
    assert!(status["top_clients"][0]["share"].as_f64().unwrap() > 0.5, "{status}");
}
