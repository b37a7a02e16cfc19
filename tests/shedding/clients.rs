//! Clients of one class: the excess of the heaviest is refused.

use std::time::Duration;

use serde_json::Value;

use super::{Flood, secret, shedding};
use crate::support::{Gateway, Response, Upstream, UpstreamReply, request};

async fn light(gateway: &Gateway, key: &str) -> Response {
    request(gateway.address(), "GET", "/b/light", &[("x-api-key", secret(key))], None).await
}

/// Light clients that send one request after another until each has sent this many. Returns those served and shed.
async fn light_requests(gateway: &Gateway, each: u64) -> (u64, u64) {
    let (mut served, mut shed) = (0, 0);
    for _ in 0..each {
        for key in ["light1", "light2"] {
            let answer = light(gateway, key).await;
            match (answer.status, answer.reason()) {
                (200, _) => served += 1,
                (503, "shed_bucket") => shed += 1,
                _ => panic!("{answer:?}"),
            }
        }
    }
    (served, shed)
}

/// X11, X6, O4: the heaviest client loses its excess from the start of the overload, and few requests of light clients of the same class
/// are refused; the decisions about a client are found by its name. The load test `low-tier-overload` has the bound of 1 %, which needs
/// a machine that does nothing else: a test that runs beside it adds waits
#[tokio::test]
async fn the_heaviest_client_is_refused() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_millis(10)));
    let gateway =
        shedding(&upstream).set("buckets.b.s3.concurrency.shedding.target_wait_ms", "100").start().await;
    let flood = Flood::start(&gateway, "heavy", "/b/heavy", 40);
    // The decisions are read while they are new: those about long waits overwrite them.
    let first_refusals = async {
        flood.until_shed(40).await;
        let answer = gateway.admin("/decisions?reason=shed_bucket&bucket=b&client=heavy").await;
        serde_json::from_slice::<Value>(&answer.body).unwrap()
    };
    let ((served, shed), decisions) = tokio::join!(light_requests(&gateway, 60), first_refusals);
    let status = gateway.status().await["shedding"].clone();
    let (of_heavy, shed_of_heavy, other) = flood.end().await;
    assert!(shed * 20 < served + shed, "{shed} shed, {served} served: {status}");
    assert!(
        of_heavy > 0 && shed_of_heavy >= 40 && other == 0,
        "{of_heavy} {shed_of_heavy} {other}: {status}"
    );
    let newest = decisions["decisions"][0]["detail"].as_str().unwrap();
    assert!(newest.contains("client key heavy"), "{newest}");
    assert!(newest.contains(": it has more than half of all traffic and is thinned; the target"), "{newest}");
    assert_eq!(status["top_clients"][0]["client"], "key heavy", "{status}");
    assert!(status["top_clients"][0]["share"].as_f64().unwrap() > 0.5, "{status}");
}
