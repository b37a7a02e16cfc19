//! Drains that an operator has ordered: they go on in the new process.

use serde_json::{Value, json};

use super::Upgradable;
use crate::support::client::message;
use crate::support::{Client, Gateway, Upstream, request, wait_for};

async fn order(gateway: &Gateway, method: &str, query: &str) -> Value {
    let body = (method == "POST").then_some(&b""[..]);
    let answer = request(gateway.admin_address(), method, &format!("/drain?{query}"), &[], body).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

async fn drains(gateway: &Gateway) -> Vec<Value> {
    let mut document: Value = serde_json::from_slice(&gateway.admin("/drains").await.body).unwrap();
    document["drains"].take().as_array().unwrap().clone()
}

/// G8, G11, P5: drains of a bucket and of an endpoint cross with reason, orderer, begin and expiry, over two upgrades too; the new process
/// refuses and calls accordingly, and an operator ends them there
#[tokio::test]
async fn drains_cross() {
    let (one, other) = (Upstream::ok("one"), Upstream::ok("other"));
    let builder = Gateway::builder().bucket_at("b", &[one.address(), other.address()]).bucket("c", &one);
    let mut running = Upgradable::start(builder).await;
    let endpoint = format!("bucket=b&endpoint=http://{}", one.address());
    order(&running.gateway, "POST", &format!("{endpoint}&reason=disk&expires=600")).await;
    order(&running.gateway, "POST", "bucket=c&reason=move").await;
    let before = drains(&running.gateway).await;
    assert_eq!(before.len(), 2, "{before:?}");
    for _ in 0..2 {
        let calls = one.count();
        running.upgraded().await;
        let after = drains(&running.gateway).await;
        assert_eq!(after.len(), 2, "{after:?}");
        for (before, after) in before.iter().zip(&after) {
            for field in ["bucket", "endpoint", "reason", "ordered_by"] {
                assert_eq!(before[field], after[field], "{field}");
            }
            assert!(after["since_ms"].as_u64() >= before["since_ms"].as_u64(), "{after}");
        }
        assert!(after[0]["expires_in_ms"].as_u64().unwrap() <= before[0]["expires_in_ms"].as_u64().unwrap());
        assert_eq!(after[1]["expires_in_ms"], Value::Null);
        for _ in 0..6 {
            assert_eq!(running.gateway.get("/b/k").await.text(), "other");
        }
        assert_eq!(running.gateway.get("/c/k").await.reason(), "bucket_draining");
        assert_eq!(one.count(), calls, "no call of the drained endpoint");
        running.wait_for_end_of_predecessor().await;
    }
    let goes_on = |line: &Value| line["bucket"] == "c" && line["reason"] == "move";
    running.gateway.wait_for_log_line("drain goes on after the upgrade", goes_on).await;
    for query in [endpoint.as_str(), "bucket=c"] {
        assert_eq!(order(&running.gateway, "DELETE", query).await["was_draining"], true, "{query}");
    }
    assert_eq!(running.gateway.get("/c/k").await.complete_status(), 200);
    wait_for("the endpoint is called again", || async {
        (running.gateway.get("/b/k").await.text() == "one").then_some(())
    })
    .await;
}

/// G8, P5: a drain expires in the new process
#[tokio::test]
async fn a_drain_expires_in_the_new_process() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::in_front_of(&upstream).await;
    order(&running.gateway, "POST", "bucket=b&reason=short&expires=20").await;
    running.upgraded().await;
    assert_eq!(running.gateway.get("/b/k").await.reason(), "bucket_draining");
    // A further order keeps the begin and shortens the time.
    let reply = order(&running.gateway, "POST", "bucket=b&reason=shorter&expires=1").await;
    assert_eq!((&reply["was_draining"], &reply["reason"]), (&json!(true), &json!("shorter")));
    running.gateway.wait_for_log_line("drain expired", |line| line["reason"] == "shorter").await;
    assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
    running.wait_for_end_of_predecessor().await;
}

/// G8: a failed upgrade leaves drains as they are; a done one refuses orders at the old process, which would be lost
#[tokio::test]
async fn orders_are_the_new_processes() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream).set("server.keep_alive", "3600");
    let running = Upgradable::start(builder).await;
    // The old process drains as long as this connection is open.
    let mut kept = Client::connect(running.gateway.address()).await;
    kept.send(message("GET", "/b/k", &[], None)).await;
    assert_eq!(kept.response("GET").await.complete_status(), 200);
    running.replace_by("/bin/false");
    running.not_upgraded(422, "upgrade_failed").await;
    order(&running.gateway, "POST", "bucket=b").await;
    running.replace_by(super::BINARY);
    let mut admin = Client::connect(running.gateway.admin_address()).await;
    admin.send(message("GET", "/drains", &[], None)).await;
    assert_eq!(admin.response("GET").await.complete_status(), 200);
    running.upgraded().await;
    admin.send(message("DELETE", "/drain?bucket=b", &[], None)).await;
    let refused = admin.response("DELETE").await;
    assert_eq!(refused.complete_status(), 409, "{}", refused.text());
    assert!(refused.text().contains("\"handed_over\""), "{}", refused.text());
    assert_eq!(drains(&running.gateway).await.len(), 1);
}
