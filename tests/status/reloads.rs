//! The last reload of the configuration in the status (G3, X10).

use serde_json::{Value, json};

use super::{has_begun, has_ended};
use crate::support::{Gateway, Upstream};

/// A bucket, and this number in a key that a reload changes.
fn text(upstream: &Upstream, grace: i32) -> String {
    let address = upstream.address();
    format!(
        "server.revoke_grace = {grace}\n[buckets.b]\nauth = [\"anonymous\"]\n[buckets.b.s3]\nendpoints = [\"http://{address}\"]\n"
    )
}

fn write(gateway: &Gateway, text: &str) {
    std::fs::write(gateway.directory().join("tidegate.toml"), text).unwrap();
}

async fn reload(gateway: &Gateway) -> Value {
    serde_json::from_slice(&gateway.post("/reload").await.body).unwrap()
}

/// G3, X10: a refused reload is a cause with all its problems in the status, until a configuration is applied or found unchanged
#[tokio::test]
async fn a_refused_reload_is_a_cause() {
    let upstream = Upstream::ok("x");
    let good = text(&upstream, 1);
    let gateway = Gateway::builder().config(&good).start().await;
    assert_eq!(gateway.status().await["configuration"], json!({ "number": 1, "last_reload": null }));

    write(&gateway, &text(&upstream, -1).replace("[buckets.b.s3]", "colour = \"red\"\n[buckets.b.s3]"));
    let reply = reload(&gateway).await;
    let keys: Vec<_> = reply["problems"].as_array().unwrap().iter().map(|each| each["key"].clone()).collect();
    assert_eq!(keys, ["buckets.b.colour", "server.revoke_grace"], "{reply}");
    let cause = has_begun(&gateway, "configuration_refused", "process").await;
    assert_eq!((&cause["severity"], &cause["measured"]["value"]), (&json!("degraded"), &json!(2.0)));
    let message = cause["message"].as_str().unwrap();
    assert!(message.contains("buckets.b.colour: unknown key") && message.ends_with("(1 more)"), "{message}");
    let status = gateway.status().await;
    let last = &status["configuration"]["last_reload"];
    assert_eq!((&last["result"], &last["problems"]), (&json!("refused"), &reply["problems"]), "{status}");
    assert_eq!((&status["status"], &status["configuration"]["number"]), (&json!("degraded"), &json!(1)));

    // Another refusal continues the cause, with the problems of the last.
    write(&gateway, "[buckets.b]\nauth = \"anonymous\"\n");
    reload(&gateway).await;
    let again = has_begun(&gateway, "configuration_refused", "process").await;
    assert_eq!(again["since"], cause["since"], "{again}");
    assert_ne!(again["message"], cause["message"], "{again}");

    write(&gateway, &good);
    assert_eq!(reload(&gateway).await["result"], "unchanged");
    has_ended(&gateway, "configuration_refused", "process").await;
    write(&gateway, &text(&upstream, 2));
    assert_eq!(reload(&gateway).await["result"], "applied");
    let configuration = &gateway.status().await["configuration"];
    assert_eq!(
        (&configuration["number"], &configuration["last_reload"]["result"]),
        (&json!(2), &json!("applied"))
    );
    for (metric, value) in [
        ("reloads_total{result=\"refused\"}", 2.0),
        ("reloads_total{result=\"unchanged\"}", 1.0),
        ("reloads_total{result=\"applied\"}", 1.0),
        ("configuration_number", 2.0),
    ] {
        assert_eq!(gateway.metric(metric).await, value, "{metric}");
    }
}
