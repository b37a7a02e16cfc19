//! Transitions of circuits and endpoints, and waits for a circuit, have the figures that decided.

use std::time::Duration;

use super::{decision, decisions, id};
use crate::support::{Gateway, Upstream, UpstreamReply, wait_for};

/// O4, B1: a request waits for its circuit and is the trial that closes it; each step has its measured value, threshold and key
#[tokio::test]
async fn the_way_of_a_circuit_is_measured() {
    let upstream = Upstream::ok("x");
    let mut builder = Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.retry.max_attempts", "1");
    for (key, value) in [
        ("per_operation", "false"),
        ("failure_threshold", "1"),
        ("success_threshold", "1"),
        ("timeout_seconds", "600"),
        ("connect_probe_interval_ms", "20"),
        ("hold_ms", "20000"),
    ] {
        builder = builder.set(&format!("buckets.b.s3.circuit_breaker.{key}"), value);
    }
    let gateway = builder.start().await;
    upstream.stop().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 502);
    let opened = decision(&gateway, "reason=circuit_opened").await;
    let waiting = crate::pool::spawn_get(&gateway, "/b/k");
    wait_for("the request waits for its circuit", || async {
        let status = gateway.status().await;
        (status["buckets"]["b"]["breaker"]["all"]["held"] == 1).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    upstream.start_again().await;
    let waited = waiting.await.unwrap();
    assert_eq!(waited.complete_status(), 200, "{waited:?}");
    let closed = decision(&gateway, "reason=circuit_closed").await;
    for (record, key, unit) in [
        (&opened, "circuit_breaker.failure_threshold", "failures"),
        (&closed, "circuit_breaker.success_threshold", "requests"),
    ] {
        assert_eq!((&record["measured"], &record["threshold"]), (&1.into(), &1.into()), "{record}");
        assert_eq!((&record["kind"], &record["unit"]), (&"transition".into(), &unit.into()), "{record}");
        assert_eq!(record["config"]["key"], format!("buckets.b.s3.{key}"), "{record}");
        assert_eq!(record["actor"]["name"], "breaker:b", "{record}");
    }
    let half_open = decision(&gateway, "reason=circuit_half_opened").await;
    assert_eq!(half_open["config"]["key"], "buckets.b.s3.circuit_breaker.half_open_max_requests");
    let waits = decisions(&gateway, &format!("reason=circuit_wait&request_id={}", id(&waited))).await;
    assert_eq!(waits.len(), 1, "{waits:?}");
    for record in &waits {
        assert_eq!((&record["kind"], &record["threshold"]), (&"queued".into(), &20_000.into()), "{record}");
        assert!(record["measured"].as_f64().unwrap() > 10.0, "{record}");
    }
}

/// O4, P5: an endpoint that its health checks exclude has the number of failed checks and their threshold
#[tokio::test]
async fn an_unhealthy_endpoint_is_measured() {
    let (well, ill) = (Upstream::ok("x"), Upstream::start(|_| UpstreamReply::status(500)));
    let gateway = Gateway::builder()
        .bucket_at("b", &[well.address(), ill.address()])
        .set("buckets.b.s3.health_check.path", "/healthz")
        .set("buckets.b.s3.health_check.interval_seconds", "0.05")
        .set("buckets.b.s3.health_check.unhealthy_threshold", "3")
        .start()
        .await;
    let record = decision(&gateway, "reason=endpoint_unhealthy").await;
    assert_eq!((&record["kind"], &record["unit"]), (&"ejection".into(), &"failures".into()), "{record}");
    assert_eq!((&record["measured"], &record["threshold"]), (&3.into(), &3.into()), "{record}");
    assert_eq!(record["config"]["key"], "buckets.b.s3.health_check.unhealthy_threshold", "{record}");
    assert_eq!(record["endpoint"], ill.address().to_string(), "{record}");
}
