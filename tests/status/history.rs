//! `/status/history`: real requests, errors and latencies appear as values a second later.

use serde_json::{Value, json};

use crate::support::{Gateway, Upstream, UpstreamReply, request, wait_for};

/// The series of a reply by name.
async fn series(gateway: &Gateway, target: &str) -> Vec<Value> {
    let answer = gateway.admin(target).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&document["interval_ms"], &document["points_max"]), (&json!(1000), &json!(600)));
    document["series"].as_array().unwrap().clone()
}

async fn values(gateway: &Gateway, name: &str) -> Vec<Option<f64>> {
    let found = series(gateway, &format!("/status/history?series={name}")).await;
    assert_eq!((found.len(), found[0]["name"].as_str()), (1, Some(name)));
    found[0]["values"].as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// Waits until the values of a series add up to a number of events. A rate is per second, and points are about a second apart.
async fn wait_for_sum(gateway: &Gateway, name: &str, expected: f64) {
    wait_for(&format!("{name} has {expected}"), || async {
        let sum: f64 = values(gateway, name).await.into_iter().flatten().sum();
        ((sum - expected).abs() < expected / 2.0).then_some(())
    })
    .await;
}

/// X7: requests, refusals and errors are rates, and durations are percentiles
#[tokio::test]
async fn requests_become_values() {
    let upstream = Upstream::start(|request| {
        UpstreamReply::status(if request.target.contains("bad") { 500 } else { 200 })
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .start()
        .await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/b/good").await.complete_status(), 200);
    }
    for _ in 0..10 {
        assert_eq!(gateway.get("/b/bad").await.complete_status(), 500);
    }
    for _ in 0..10 {
        assert_eq!(gateway.get("/nowhere/k").await.complete_status(), 404);
    }
    wait_for_sum(&gateway, "bucket.b.requests_per_second", 30.0).await;
    wait_for_sum(&gateway, "bucket.b.errors_per_second", 10.0).await;
    wait_for_sum(&gateway, "requests_per_second", 40.0).await;
    wait_for_sum(&gateway, "refusals_per_second", 10.0).await;
    let mut last = 0.0;
    for percentile in ["p50", "p95", "p99"] {
        let known = values(&gateway, &format!("bucket.b.{percentile}")).await.into_iter().flatten();
        let max = known.fold(0.0, f64::max);
        assert!(max > 0.0 && max >= last, "{percentile}: {max}, below it {last}");
        last = max;
    }
}

/// X7, X1: every sensor of the status has a series with the thresholds of its levels
#[tokio::test]
async fn sensors_have_series_with_thresholds() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("monitor.warning", "70")
        .set("monitor.recover", "60")
        .start()
        .await;
    let status = gateway.status().await;
    let sensors = status["resources"].as_object().unwrap();
    let of_sensors = series(&gateway, "/status/history?series=sensor.").await;
    let names: Vec<&str> = of_sensors.iter().map(|series| series["name"].as_str().unwrap()).collect();
    for sensor in sensors.keys() {
        assert!(names.contains(&format!("sensor.{sensor}").as_str()), "{sensor}: {names:?}");
    }
    let thresholds = |name: &str| {
        let series = of_sensors.iter().find(|series| series["name"] == format!("sensor.{name}")).unwrap();
        [&series["warning"], &series["critical"], &series["exhausted"]].map(Value::as_u64)
    };
    assert_eq!(thresholds("memory"), [Some(70), Some(90), Some(95)]);
    assert_eq!(thresholds("memory_total"), [Some(70), None, None], "it only warns");
    assert_eq!(of_sensors[0]["unit"], "%");
}

/// X7: buckets beyond the 64th are summed, so that the memory does not grow with the configuration
#[tokio::test]
async fn many_buckets_are_summed() {
    let upstream = Upstream::ok("x");
    let builder =
        (0..70).fold(Gateway::builder(), |builder, at| builder.bucket(&format!("bucket{at:02}"), &upstream));
    let gateway = builder.start().await;
    let names: Vec<String> = series(&gateway, "/status/history")
        .await
        .iter()
        .map(|series| series["name"].as_str().unwrap().to_owned())
        .collect();
    let of_buckets = names.iter().filter(|name| name.starts_with("bucket.")).count();
    assert_eq!(of_buckets, 64 * 8, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("other_buckets.")).count(), 8);
    for bucket in ["bucket65", "bucket69"] {
        for _ in 0..5 {
            assert_eq!(gateway.get(&format!("/{bucket}/k")).await.complete_status(), 200);
        }
    }
    wait_for_sum(&gateway, "other_buckets.requests_per_second", 10.0).await;
    let head = request(gateway.admin_address(), "HEAD", "/status/history", &[], None).await;
    assert_eq!(head.complete_status(), 200);
}
