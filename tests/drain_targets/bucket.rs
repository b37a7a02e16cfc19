//! A draining bucket refuses new requests, and those that it has admitted end normally.

use serde_json::{Value, json};

use super::{Held, drain, drains, end, essence, get, holding, refusal, refused, wait_until_left};
use crate::status::{has_begun, has_ended};
use crate::support::{Client, Gateway, Upstream, client, request, wait_for};

/// G4, L1: new requests of every kind get 503 and `Retry-After`, held ones end whole, and another bucket and the probes serve
#[tokio::test]
async fn a_draining_bucket_refuses_new_requests() {
    let ((upstream, latch), other) = (holding("b"), Upstream::ok("other"));
    let gateway = Gateway::builder().bucket("b", &upstream).bucket("other", &other).start().await;
    let held = Held::begin(&gateway, "/b/held").await;
    let reply = drain(&gateway, "bucket=b&reason=disk%20swap").await;
    assert_eq!(essence(&reply), json!(["b", null, "disk swap", true, false]), "{reply}");
    assert_eq!((&reply["requests_left"], &reply["expires_in_ms"]), (&json!(1), &Value::Null));

    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "bucket_draining"));
    assert_eq!(answer.element("Code").as_deref(), Some("ServiceUnavailable"));
    assert!((30..=36).contains(&answer.retry_after().unwrap()), "{:?}", answer.retry_after());
    let preflight = [("origin", "https://app.test"), ("access-control-request-method", "GET")];
    let answer = request(gateway.address(), "OPTIONS", "/b/k", &preflight, None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "bucket_draining"));
    let answer = request(gateway.address(), "PUT", "/b/k", &[], Some(b"body")).await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "bucket_draining"));
    assert_eq!(upstream.count(), 1, "none of them was sent");
    assert_eq!(get(&gateway, "/other/k").await, (200, "other".to_owned()));
    assert_eq!(gateway.get("/-/readyz").await.complete_status(), 200);

    let cause = has_begun(&gateway, "bucket_draining", "b").await;
    let message = cause["message"].as_str().unwrap();
    assert!(message.starts_with("bucket b drains: 1 request left, the oldest for "), "{message}");
    assert!(message.ends_with(" (disk swap)"), "{message}");
    assert_eq!(gateway.status().await["status"], "degraded", "an operator wants it so");
    let entry = &gateway.status().await["buckets"]["b"]["drain"];
    assert_eq!((&entry["requests_left"], &entry["reason"]), (&json!(1), &json!("disk swap")), "{entry}");
    assert!(drains(&gateway).await[0]["oldest_ms"].is_u64());

    latch.open_for_all();
    held.end().await;
    assert_eq!(wait_until_left(&gateway, 0).await["oldest_ms"], Value::Null);
    assert_eq!(end(&gateway, "bucket=b").await["was_draining"], true);
    assert_eq!(get(&gateway, "/b/k").await, (200, "b".to_owned()));
    assert_eq!(has_ended(&gateway, "bucket_draining", "b").await["refused"], 3);
    assert!(drains(&gateway).await.is_empty());
}

/// G4: a request that waits in the queue was admitted before the drain, and is served
#[tokio::test]
async fn a_waiting_request_is_served() {
    let (upstream, latch) = holding("b");
    let builder = Gateway::builder().bucket("b", &upstream);
    let gateway = builder.set("buckets.b.s3.concurrency.max_concurrent", "1").start().await;
    let held = Held::begin(&gateway, "/b/held").await;
    let mut waiting = Client::connect(gateway.address()).await;
    waiting.send(client::message("GET", "/b/k", &[], None)).await;
    wait_for("it waits in the queue", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == 1).then_some(())
    })
    .await;
    assert_eq!(drain(&gateway, "bucket=b").await["requests_left"], 2);
    assert_eq!(refusal(&gateway, "/b/k").await, refused("bucket_draining"));
    latch.open_for_all();
    held.end().await;
    let answer = waiting.response("GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "b"));
    wait_until_left(&gateway, 0).await;
}

/// G4: the remaining time of a drain is the `Retry-After`, and its end is the end of the refusals
#[tokio::test]
async fn a_drain_expires() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    drain(&gateway, "bucket=b&expires=600").await;
    let answer = gateway.get("/b/k").await;
    assert!((590..=660).contains(&answer.retry_after().unwrap()), "{:?}", answer.retry_after());
    let again = drain(&gateway, "bucket=b&expires=1&reason=short").await;
    assert_eq!((&again["was_draining"], &again["reason"]), (&json!(true), &json!("short")));
    assert!(again["expires_in_ms"].as_u64().unwrap() <= 1000, "{again}");
    wait_for("the bucket serves again", || async {
        (gateway.get("/b/k").await.complete_status() == 200).then_some(())
    })
    .await;
    assert!(drains(&gateway).await.is_empty());
    let line = gateway.wait_for_log_line("drain expired", |line| line["bucket"] == "b").await;
    assert_eq!(line["reason"], "short");
}

/// O6: the explanation of a request names the drain
#[tokio::test]
async fn the_drain_is_explained() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    drain(&gateway, "bucket=b").await;
    let body = &b"{\"url\": \"/b/k\"}"[..];
    let answer = request(gateway.admin_address(), "POST", "/explain", &[], Some(body)).await;
    let explanation: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(explanation["outcome"], "refused", "{explanation}");
    let last = explanation["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["step"], &last["result"]), (&json!("drain"), &json!("refuse")), "{last}");
    assert!(last["sentence"].as_str().unwrap().contains("(bucket_draining)"), "{last}");
}
