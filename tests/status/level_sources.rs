//! Causes of the resource level: real pressure that rises and falls.

use serde_json::{Value, json};

use super::{causes, has_begun, has_ended};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// Checks the scope and the figures of a level.
fn assert_level(cause: &Value, threshold: u32, sensor: &str) {
    assert_eq!(cause["scope"], json!({ "kind": "process", "bucket": null, "name": null }));
    let threshold = f64::from(threshold);
    assert_eq!(cause["threshold"], json!({ "value": threshold, "unit": "%" }), "{cause}");
    assert!(cause["measured"]["value"].as_f64().unwrap() >= threshold, "{cause}");
    assert!(cause["message"].as_str().unwrap().contains(&format!(": {sensor} at ")), "{cause}");
}

/// Waits until the cause names an action as in force. The level and its actions are two readings.
async fn has_action(gateway: &Gateway, code: &str, action: &str) {
    wait_for(&format!("{code} names {action}"), || async {
        let causes = causes(gateway, code).await;
        causes.iter().any(|cause| cause["effect"]["text"].as_str().unwrap().contains(action)).then_some(())
    })
    .await;
}

/// Sends requests that the upstream holds.
async fn hold(gateway: &Gateway, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", "/b/held", &[], None)).await;
        clients.push(client);
    }
    clients
}

/// X2, X10: requests in flight are the cause `warning`, then `critical`; each ends when its level does
#[tokio::test]
async fn warning_and_critical_are_causes() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.max_concurrent_requests", "20")
        .set("monitor.interval_ms", "20")
        .start()
        .await;
    let first = hold(&gateway, 16).await;
    let warning = has_begun(&gateway, "warning", "process").await;
    assert_level(&warning, 80, "in_flight");
    assert_eq!(gateway.status().await["status"], "degraded");
    let second = hold(&gateway, 2).await;
    let critical = has_begun(&gateway, "critical", "process").await;
    assert_level(&critical, 90, "in_flight");
    has_action(&gateway, "critical", "shed_uploads").await;
    has_ended(&gateway, "warning", "process").await;
    latch.open_for_all();
    for mut client in first.into_iter().chain(second) {
        assert_eq!(
            client.response("GET").await.complete_status(),
            200,
            "no level but `exhausted` refuses reads"
        );
    }
    has_ended(&gateway, "critical", "process").await;
    has_ended(&gateway, "warning", "process").await;
    assert_eq!(gateway.status().await["status"], "ok");
}

/// X2, X5, X10: a lack of descriptors is the cause `exhausted` with its refusals, until descriptors are free again
#[tokio::test]
async fn exhausted_is_a_cause() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).exhaust_at_half_of_descriptors().start().await;
    gateway.exhaust_descriptors();
    let exhausted = has_begun(&gateway, "exhausted", "process").await;
    assert_level(&exhausted, 50, "descriptors");
    has_action(&gateway, "exhausted", "shed_requests").await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.reason(), "exhausted");
    }
    gateway.limit_descriptors(2000);
    assert_eq!(has_ended(&gateway, "exhausted", "process").await["refused"], 3);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}
