//! A failover to standby endpoints: its cause, its decisions, and the endpoint in an explanation.

use serde_json::{Value, json};

use super::decision;
use super::made_up::explain;
use crate::status::{has_begun, has_ended};
use crate::support::{Gateway, Upstream, wait_for};

async fn cause(gateway: &Gateway) -> Option<Value> {
    let status = gateway.status().await;
    let causes = status["causes"].as_array().unwrap();
    causes.iter().find(|cause| cause["code"] == "standby_in_use").cloned()
}

async fn endpoint_sentence(gateway: &Gateway) -> String {
    let explanation = explain(gateway, &json!({ "url": "/b/k" })).await;
    assert_eq!(explanation["outcome"], "forwarded", "{explanation}");
    let step = explanation["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(step["step"], "endpoint", "{explanation}");
    step["sentence"].as_str().unwrap().to_owned()
}

/// Checks the figures of a decision and the key of its threshold.
fn assert_figures(record: &Value, threshold: u32, unit: &str, key: &str) {
    assert_eq!((&record["threshold"], &record["unit"]), (&threshold.into(), &unit.into()), "{record}");
    assert_eq!(record["config"]["key"], key, "{record}");
}

/// X10, O4, O6, P5: standby endpoints that serve are a cause with their end; the decisions have what decided, and an explanation
/// names the endpoint that is called
#[tokio::test]
async fn a_failover_is_a_cause_and_is_explained() {
    let (primary, standby) = (Upstream::ok("x"), Upstream::ok("x"));
    let (first, second) = (primary.address().to_string(), standby.address().to_string());
    let gateway = Gateway::builder()
        .bucket("b", &primary)
        .set("buckets.b.s3.failover.endpoints", &format!("http://{second}"))
        .set("buckets.b.s3.failover.return_after_seconds", "3")
        .start()
        .await;
    assert_eq!(endpoint_sentence(&gateway).await, format!("the request goes to {first}"));
    primary.stop().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "the standby endpoint serves");
    let began = has_begun(&gateway, "standby_in_use", "b").await;
    assert_eq!(began["scope"], json!({ "kind": "bucket", "bucket": "b", "name": null }));
    assert_eq!((&began["severity"], &began["threshold"]["value"]), (&"degraded".into(), &1.0.into()));
    assert!(began["message"].as_str().unwrap().contains(&format!("endpoints {second} serve")), "{began}");
    let to_standby = format!("the request goes to {second}, because the standby endpoints serve");
    assert_eq!(endpoint_sentence(&gateway).await, to_standby);

    let unreachable = decision(&gateway, "reason=endpoint_unreachable").await;
    assert_eq!((&unreachable["measured"], &unreachable["endpoint"]), (&1.into(), &first.as_str().into()));
    assert_figures(&unreachable, 1, "failures", "buckets.b.s3.outlier_ejection.base_seconds");
    let over = decision(&gateway, "reason=failed_over").await;
    assert_eq!(over["measured"], 0, "{over}");
    assert_figures(&over, 1, "%", "buckets.b.s3.failover.min_usable_percent");

    primary.start_again().await;
    let returning = wait_for("the return has a time", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        cause(&gateway).await.filter(|cause| cause["until"].is_string())
    })
    .await;
    assert_eq!(returning["since"], began["since"], "{returning}");
    assert_eq!(endpoint_sentence(&gateway).await, to_standby, "until then the standby endpoint serves");
    has_ended(&gateway, "standby_in_use", "b").await;
    assert_eq!(endpoint_sentence(&gateway).await, format!("the request goes to {first}"));
    let before = primary.count();
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(primary.count(), before + 1, "as explained");
    let back = decision(&gateway, "reason=failed_back").await;
    assert!(back["measured"].as_f64().unwrap() >= 3000.0, "{back}");
    assert_figures(&back, 3000, "ms", "buckets.b.s3.failover.return_after_seconds");
}
