//! Shortages of the gateway are reported as such, and never counted against an upstream.

use std::time::Duration;

use serde_json::json;

use super::circuit_state;
use crate::status::{has_begun, has_ended};
use crate::support::client::{Client, message};
use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream, UpstreamReply, wait_for};

/// Twice the failures that open a circuit.
const REQUESTS: usize = 12;

/// An upstream that closes each connection, so that each request needs a new one.
fn closing() -> Upstream {
    Upstream::start(|_| UpstreamReply::ok("x").closing())
}

/// The monitor samples once, so that the level does not refuse requests before the connection is tried.
fn sampled_once(builder: Builder) -> Builder {
    builder.set("monitor.interval_ms", "60000")
}

/// Requests on one kept connection while no descriptor is free; each must be refused as the gateway's own shortage.
async fn assert_refused_for_descriptors(gateway: &Gateway, first: &str) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", first, &[], None)).await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
    let get = message("GET", "/b/k", &[], None);
    wait_for("the upstream's connection closes", || async {
        (gateway.metric("connection_pool_active{bucket=\"b\"}").await == 0.0).then_some(())
    })
    .await;
    gateway.limit_descriptors(30);
    for _ in 0..REQUESTS {
        client.send(&get).await;
        let answer = client.response("GET").await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (503, "out_of_descriptors"),
            "{}",
            answer.text()
        );
        assert!(answer.retry_after().is_some());
    }
    assert_eq!(circuit_state(gateway).await, "closed");
    gateway.limit_descriptors(1000);
    client.send(&get).await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
}

/// X9: a lack of descriptors is 503 with its own reason; it neither opens the circuit nor spends a retry
#[tokio::test]
async fn lack_of_descriptors_is_not_counted_against_the_store() {
    let upstream = closing();
    let gateway = sampled_once(Gateway::builder().bucket("b", &upstream)).start().await;
    assert_refused_for_descriptors(&gateway, "/b/k").await;
    assert_eq!(gateway.metric("own_shortages_total{cause=\"out_of_descriptors\"}").await, REQUESTS as f64);
    assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await, 0.0);
    let begun = "a resource of the gateway is exhausted; calls that need it are refused with 503";
    gateway.wait_for_log_line(begun, |line| line["cause"] == "out_of_descriptors").await;
    let cause = has_begun(&gateway, "out_of_descriptors", "process").await;
    assert_eq!(cause["measured"], json!({ "value": REQUESTS as f64, "unit": "failed calls" }), "{cause}");
    let message = cause["message"].as_str().unwrap();
    assert!(message.contains("no descriptor left") && message.contains("ulimit -n"), "{cause}");
    assert_eq!(gateway.status().await["status"], "critical");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(
        gateway.log_lines().iter().filter(|line| line["msg"] == begun).count(),
        1,
        "one line for all of them"
    );
    assert_eq!(has_ended(&gateway, "out_of_descriptors", "process").await["refused"], REQUESTS);
}

/// X9: a resolver without descriptors returns "unknown name", which is still reported as the gateway's shortage
#[tokio::test]
async fn a_failed_lookup_for_lack_of_descriptors_is_a_shortage() {
    let upstream = closing();
    let endpoint = format!("http://localhost:{}", upstream.address().port());
    let builder =
        Gateway::builder().set("buckets.b.auth", "anonymous").set("buckets.b.s3.endpoints", &endpoint);
    let gateway = sampled_once(builder).start().await;
    // Without an earlier look-up there is no cached answer.
    assert_refused_for_descriptors(&gateway, "/-/livez").await;
}

/// X9: health checks that fail for lack of descriptors do not affect the endpoint
#[tokio::test]
async fn checks_without_descriptors_eject_no_endpoint() {
    let upstream = closing();
    let other = closing();
    let builder = Gateway::builder()
        .bucket_at("b", &[upstream.address(), other.address()])
        .set("buckets.b.s3.health_check.path", "/well")
        .set("buckets.b.s3.health_check.interval_seconds", "0.1");
    let gateway = builder.start().await;
    wait_for("it is checked", || async { (upstream.count() > 2 && other.count() > 2).then_some(()) }).await;
    gateway.limit_descriptors(30);
    let noted = "own_shortages_total{cause=\"out_of_descriptors\"}";
    wait_for("checks fail", || async { (gateway.metric(noted).await >= 20.0).then_some(()) }).await;
    let status = gateway.status().await;
    for endpoint in status["buckets"]["b"]["pool"]["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["state"], "in_rotation", "{endpoint}");
    }
    assert!(gateway.log_lines().iter().all(|line| line["msg"] != "health check failed"));
}
