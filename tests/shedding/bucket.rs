//! The cursor of a bucket: classes, other buckets, shadow mode, crashes, what the operator sees.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::{Flood, cursor, secret, shedding, until_calm};
use crate::status::{has_begun, has_ended};
use crate::support::{Gateway, Upstream, UpstreamReply, request, wait_for};

const SLOW: Duration = Duration::from_millis(20);

fn slow() -> Upstream {
    Upstream::start(|_| UpstreamReply::ok("x").delayed(SLOW))
}

async fn urgent(gateway: &Gateway) -> u16 {
    let headers = [("x-api-key", secret("urgent"))];
    request(gateway.address(), "GET", "/b/urgent", &headers, None).await.complete_status()
}

/// A target that one request does not exceed on a slow machine either: an overload by class low is then relieved without class high.
const LONG_TARGET_MS: &str = "400";

/// X11, P3: under an overload by class low every request of class high is served, requests of class low are refused before
/// the queue, and the cursor falls to 0 when the overload ends
#[tokio::test]
async fn the_lowest_class_is_refused_first() {
    let upstream = slow();
    let gateway = shedding(&upstream)
        .set("buckets.b.s3.concurrency.shedding.target_wait_ms", LONG_TARGET_MS)
        .start()
        .await;
    let flood = Flood::start(&gateway, "nightly", "/b/nightly", 60);
    flood.until_shed(20).await;
    for _ in 0..30 {
        assert_eq!(urgent(&gateway).await, 200);
    }
    let during = gateway.status().await["shedding"].clone();
    let (served, shed, other) = flood.end().await;
    assert!(served > 0 && shed >= 20 && other == 0, "{served} {shed} {other}");
    let count = async |class: &str| {
        gateway.metric(&format!("shed_requests_total{{class=\"{class}\",scope=\"b\"}}")).await
    };
    assert_eq!((count("low").await, count("high").await), (shed as f64, 0.0));
    assert_eq!(gateway.metric("shed_requests_total{class=\"high\",scope=\"process\"}").await, 0.0);
    let errors = "errors_total{bucket=\"b\",reason=\"shed_bucket\"}";
    assert_eq!(gateway.metric(errors).await, shed as f64);
    assert_eq!(during["top_clients"][0]["client"], "key nightly", "{during}");
    until_calm(&gateway, "b").await;
    let after = cursor(&gateway, "b").await;
    assert_eq!((&after["refused"], &after["mode"]), (&shed.into(), &"enforce".into()), "{after}");
    assert_eq!(after["sentence"], "The cursor is 0: nobody is refused.");
    gateway.wait_until_idle().await;
}

/// Each refusal has a reading that is above the threshold it names.
fn assert_above_threshold(decisions: &Value) {
    let all = decisions["decisions"].as_array().unwrap();
    assert!(!all.is_empty(), "{decisions}");
    for decision in all {
        let (measured, threshold) =
            (decision["measured"].as_f64().unwrap(), decision["threshold"].as_f64().unwrap());
        assert!(measured >= threshold, "{decision}");
    }
}

/// X11: a queue that stays below half of its length, with a wait far below the target, refuses no request
#[tokio::test]
async fn a_queue_below_half_of_its_length_refuses_no_request() {
    let upstream = slow();
    let gateway = shedding(&upstream)
        .set("buckets.b.s3.concurrency.max_queued", "100")
        .set("buckets.b.s3.concurrency.shedding.target_wait_ms", "20000")
        .start()
        .await;
    let flood = Flood::start(&gateway, "light1", "/b/light", 46);
    wait_for("150 requests are served", || async {
        (flood.served.load(Ordering::Relaxed) >= 150).then_some(())
    })
    .await;
    let status = gateway.status().await;
    let (served, shed, other) = flood.end().await;
    assert!(served >= 150 && shed == 0 && other == 0, "{served} {shed} {other}: {status}");
    let cursor = &status["shedding"]["buckets"]["b"];
    assert_eq!(cursor["cursor"], 0.0, "{cursor}");
    assert!(cursor["wait_ms"].as_f64().unwrap() > 500.0, "the queue is long: {cursor}");
}

/// X11, O4: a long queue is cut from half of its target on, and the refusals name that threshold
#[tokio::test]
async fn a_long_queue_names_half_of_its_target() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_millis(40)));
    let gateway =
        shedding(&upstream).set("buckets.b.s3.concurrency.shedding.target_wait_ms", "2000").start().await;
    let flood = Flood::start(&gateway, "nightly", "/b/nightly", 40);
    flood.until_shed(5).await;
    let status = gateway.status().await;
    flood.end().await;
    assert_eq!(status["shedding"]["buckets"]["b"]["target_ms"], 2000.0, "{status}");
    let answer = gateway.admin("/decisions?reason=shed_bucket&bucket=b").await;
    let decisions: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_above_threshold(&decisions);
    for decision in decisions["decisions"].as_array().unwrap() {
        let is_early = decision["measured"].as_f64().unwrap() <= 2000.0;
        let threshold = if is_early { 1000.0 } else { 2000.0 };
        assert_eq!(decision["threshold"].as_f64(), Some(threshold), "{decision}");
        let detail = decision["detail"].as_str().unwrap();
        assert_eq!(detail.contains("more than half of the target"), is_early, "{detail}");
    }
}

/// X11, O4, O6, X10: a refusal has its decision with cursor, wait, threshold and client; the cause and the explanation name it
#[tokio::test]
async fn a_refusal_is_explained() {
    let upstream = slow();
    let gateway = shedding(&upstream).start().await;
    let flood = Flood::start(&gateway, "nightly", "/b/nightly", 30);
    flood.until_shed(5).await;
    let cause = has_begun(&gateway, "shedding", "b").await;
    assert_eq!(cause["scope"]["bucket"], "b", "{cause}");
    assert_eq!(cause["threshold"]["value"].as_f64(), Some(20.0), "{cause}");
    assert!(cause["measured"]["value"].as_f64() >= cause["threshold"]["value"].as_f64(), "{cause}");
    assert!(cause["effect"]["refused"].as_u64().unwrap() > 0, "{cause}");
    let made_up = r#"{"url":"/b/k","headers":{"x-api-key":"nightly-0123456789abcdef"}}"#;
    let step = wait_for("the explanation refuses or does not know", || async {
        let headers = [("content-type", "application/json")];
        let answer =
            request(gateway.admin_address(), "POST", "/explain", &headers, Some(made_up.as_bytes())).await;
        let explanation: Value = serde_json::from_slice(&answer.body).unwrap();
        let steps = explanation["steps"].as_array().unwrap();
        steps.iter().rfind(|step| step["step"] == "shedding" && step["result"] != "pass").cloned()
    })
    .await;
    assert!(step["sentence"].as_str().unwrap().contains("class low"), "{step}");
    flood.end().await;
    let answer = gateway.admin("/decisions?reason=shed_bucket&bucket=b").await;
    let decisions: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_above_threshold(&decisions);
    let decision = &decisions["decisions"][0];
    for (field, expected) in [
        ("kind", Value::from("refusal")),
        ("scope", "bucket".into()),
        ("unit", "ms".into()),
        ("threshold", 20.into()),
        ("client_key", "nightly".into()),
        ("status", 503.into()),
    ] {
        assert_eq!(decision[field], expected, "{field} in {decision}");
    }
    let detail = decision["detail"].as_str().unwrap();
    assert!(detail.starts_with("cursor ") && detail.contains("client key nightly"), "{detail}");
    assert_eq!(decision["config"]["key"], "buckets.b.s3.concurrency.shedding.target_wait_ms", "{decision}");
    let ended = has_ended(&gateway, "shedding", "b").await;
    assert!(ended["refused"].as_u64() >= cause["effect"]["refused"].as_u64(), "{ended}");
}

/// X11: a bucket that hangs moves its own cursor; no request of another bucket is refused
#[tokio::test]
async fn a_hanging_bucket_refuses_nothing_elsewhere() {
    let (hanging, good) = (Upstream::start(|_| UpstreamReply::hang()), Upstream::ok("x"));
    let gateway = shedding(&hanging)
        .bucket("good", &good)
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "500")
        .set("buckets.b.s3.timeout", "2")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .set("buckets.good.s3.concurrency.priority.read", "low")
        .start()
        .await;
    let flood = Flood::start(&gateway, "nightly", "/b/nightly", 10);
    flood.until_shed(10).await;
    assert!(cursor(&gateway, "b").await["cursor"].as_f64().unwrap() > 0.0);
    for _ in 0..50 {
        assert_eq!(gateway.get("/good/k").await.complete_status(), 200);
    }
    let status = gateway.status().await;
    assert_eq!(status["shedding"]["buckets"]["good"]["refused"], 0, "{status}");
    assert_eq!(status["shedding"]["buckets"]["good"]["cursor"], 0.0, "{status}");
    assert_eq!(status["shedding"]["process"]["refused"], 0, "{status}");
    // The value is of the requests that have just left the queue, and at times none has.
    wait_for("the wait is above the target", || async {
        let wait = gateway.status().await["waits"]["buckets"]["b"]["value_ms"].as_f64()?;
        (wait > 20.0).then_some(())
    })
    .await;
    flood.end().await;
}

/// X11: shadow mode counts and records the requests that it would refuse, and refuses none
#[tokio::test]
async fn shadow_mode_refuses_nothing() {
    let upstream = slow();
    let gateway = shedding(&upstream).set("buckets.b.s3.concurrency.shedding.mode", "shadow").start().await;
    let flood = Flood::start(&gateway, "nightly", "/b/nightly", 10);
    let shadowed = wait_for("requests would be refused", || async {
        let cursor = cursor(&gateway, "b").await;
        cursor["shadowed"].as_u64().filter(|count| *count >= 10)
    })
    .await;
    // The cause ends with the flood.
    let cause = has_begun(&gateway, "shedding", "b").await;
    assert_eq!(cause["effect"]["text"], "none: the cursor is in shadow mode", "{cause}");
    let (served, shed, other) = flood.end().await;
    assert!(served >= shadowed && shed == 0 && other == 0, "{served} {shed} {other}");
    let counted = "shed_shadowed_requests_total{class=\"low\",scope=\"b\"}";
    assert!(gateway.metric(counted).await >= 10.0);
    let answer = gateway.admin("/decisions?reason=shed_bucket").await;
    let decisions: Value = serde_json::from_slice(&answer.body).unwrap();
    let newest = &decisions["decisions"][0];
    assert_eq!((&newest["kind"], &newest["status"]), (&"shadow".into(), &503.into()), "{decisions}");
}

/// X11, S5: a crash of the pool keeps the cursor, which then falls
#[tokio::test]
async fn a_crash_of_the_pool_keeps_the_cursor() {
    let upstream = slow();
    let gateway = shedding(&upstream).chaos().start().await;
    let flood = Flood::start(&gateway, "nightly", "/b/nightly", 30);
    wait_for("the cursor cuts class low", || async {
        (cursor(&gateway, "b").await["cursor"].as_f64().unwrap() >= 0.7).then_some(())
    })
    .await;
    let generation = gateway.generation("pool:b").await;
    gateway.crash("pool:b", "apply").await;
    gateway.wait_for_generation("pool:b", generation + 1).await;
    let after = cursor(&gateway, "b").await;
    assert!(after["cursor"].as_f64().unwrap() > 0.2, "{after}");
    flood.end().await;
    until_calm(&gateway, "b").await;
    assert_eq!(urgent(&gateway).await, 200);
}
