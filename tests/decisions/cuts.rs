//! Transfers that the gateway ends after their head: the record has the figures of the limit.

use std::time::Duration;

use serde_json::Value;

use super::decision;
use crate::support::{Client, Gateway, Upstream, UpstreamReply};

/// Checks the record of a cut: its limit in milliseconds, and the key of the limit.
fn assert_cut(record: &Value, limit: f64, key: &str) {
    assert_eq!((&record["kind"], &record["unit"]), (&"cut".into(), &"ms".into()), "{record}");
    assert_eq!(
        (record["status"].as_u64(), record["threshold"].as_f64()),
        (Some(200), Some(limit)),
        "{record}"
    );
    assert!(record["measured"].as_f64().unwrap() >= limit, "{record}");
    assert_eq!(record["config"]["key"], key, "{record}");
}

/// O4, T4: the record of an answer that its client does not read has the time of the stall
#[tokio::test]
async fn a_stalled_client_is_measured() {
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; 12 << 20]));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.write_stall_timeout", "1")
        .set("server.min_send_rate", "0")
        .start()
        .await;
    let mut client = Client::connect_from([127, 0, 0, 1], gateway.address(), Some(1)).await;
    client.send("GET /b/k HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let record = decision(&gateway, "reason=write_stall").await;
    assert_cut(&record, 1000.0, "server.write_stall_timeout");
    assert_eq!(record["scope"], "client_address", "{record}");
}

/// O4, T2: the record of an answer that its store stops sending has the time without a byte
#[tokio::test]
async fn a_silent_store_is_measured() {
    let pause = Duration::from_secs(5);
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_after(pause, "end"));
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.idle_timeout", "0.3").start().await;
    let answer = gateway.get("/b/k").await;
    assert!(answer.broken.is_some(), "{answer:?}");
    let record = decision(&gateway, "reason=timeout_idle").await;
    assert_cut(&record, 300.0, "buckets.b.s3.idle_timeout");
    assert_eq!(record["scope"], "endpoint", "{record}");
}
