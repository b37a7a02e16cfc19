//! How near limits were to acting: `last_hour` in `GET /config`, and `tidegate config --running`.

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// The last hour of a key.
async fn last_hour(gateway: &Gateway, key: &str) -> Value {
    let answer = gateway.admin("/config").await;
    assert_eq!(answer.complete_status(), 200);
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let keys = document["keys"].as_array().unwrap();
    let found = keys.iter().find(|found| found["key"] == key).unwrap_or_else(|| panic!("no key {key}"));
    found["last_hour"].clone()
}

/// Waits until a key has this many hits.
async fn with_hits(gateway: &Gateway, key: &str, hits: u64) -> Value {
    wait_for(&format!("{key} has {hits} hits"), || async {
        let hour = last_hour(gateway, key).await;
        (hour["hits"] == hits).then_some(hour)
    })
    .await
}

/// G2: a limit has the number of its refusals and its peak use; nothing is suggested without ten minutes
#[tokio::test]
async fn limits_have_hits_and_peaks() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |request| {
        let reply = UpstreamReply::ok("x");
        if request.target.contains("held") { reply.when_open(&held) } else { reply }
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.max_concurrent_requests", "3")
        .set("buckets.b.s3.concurrency.max_concurrent", "2")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "20000")
        .set("buckets.b.rate_limit.requests_per_second", "0.001")
        .set("buckets.b.rate_limit.burst", "10")
        .start()
        .await;
    let mut clients = Vec::new();
    for at in 0..3 {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", &format!("/b/held{at}"), &[], None)).await;
        clients.push(client);
    }
    upstream.wait_until_in_flight(2).await;
    wait_for("three are in flight", || async {
        (gateway.status().await["requests_in_flight"] == 3).then_some(())
    })
    .await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.reason(), "too_many_requests_in_flight");
    }
    let hour = with_hits(&gateway, "server.max_concurrent_requests", 4).await;
    assert_eq!(
        hour,
        json!({ "minutes": 0, "hits": 4, "hit": "requests refused", "peak": 3.0, "limit": 3.0, "unit": "requests",
            "suggestion": null })
    );
    let calls = last_hour(&gateway, "buckets.b.s3.concurrency.max_concurrent").await;
    assert_eq!((&calls["peak"], &calls["limit"]), (&json!(2.0), &json!(2.0)));
    let queue = last_hour(&gateway, "buckets.b.s3.concurrency.max_queued").await;
    assert_eq!((&queue["peak"], &queue["hits"]), (&json!(1.0), &json!(0)));
    latch.open_for_all();
    for client in &mut clients {
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
    // One of the three waited for a permit.
    with_hits(&gateway, "buckets.b.s3.concurrency.max_concurrent", 1).await;

    let mut limited = 0;
    while limited < 5 {
        limited += u64::from(gateway.get("/b/k").await.reason() == "rate_limit_bucket");
    }
    let burst = with_hits(&gateway, "buckets.b.rate_limit.burst", 5).await;
    assert_eq!((&burst["limit"], &burst["unit"]), (&json!(10.0), &json!("tokens")));
    assert!(burst["peak"].as_f64().unwrap() > 9.9, "{burst}");
    assert_eq!(last_hour(&gateway, "server.port").await, Value::Null);
}

/// G2: header and body limits count what they refused, sensors have their peak pressure
#[tokio::test]
async fn other_limits_are_tracked() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.max_request_size", "1KiB")
        .set("server.limits.max_headers", "10")
        .set("rate_limit.global.requests_per_second", "1000")
        .start()
        .await;
    let names: Vec<String> = (0..20).map(|at| format!("x-a{at}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = crate::support::request(gateway.address(), "GET", "/b/k", &headers, None).await;
    assert_eq!(answer.reason(), "too_many_headers");
    let answer = crate::support::put(gateway.address(), "/b/k", vec![0; 2000]).await;
    assert_eq!(answer.reason(), "body_too_large");
    with_hits(&gateway, "server.limits.max_headers", 1).await;
    let size = with_hits(&gateway, "buckets.b.max_request_size", 1).await;
    assert_eq!((&size["limit"], &size["peak"]), (&json!(1024.0), &Value::Null));
    let pressure =
        wait_for("a reading", || async { last_hour(&gateway, "monitor.critical").await["peak"].as_f64() })
            .await;
    assert!(pressure > 0.0 && pressure <= 100.0, "{pressure}");
    let admin = wait_for("a peak", || async {
        last_hour(&gateway, "admin.max_connections").await["peak"].as_f64().filter(|peak| *peak > 0.0)
    });
    assert!(admin.await < 64.0);
}

/// G2: a long operation counts for its own timeout, a retry for the budget, a watcher for its maximum
#[tokio::test]
async fn hits_count_for_the_limit_that_decided() {
    let upstream = Upstream::start(|request| {
        if request.method == "GET" { UpstreamReply::status(503) } else { UpstreamReply::hang() }
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.request_timeout", "0.2")
        .set("buckets.b.s3.timeout", "0.2")
        .set("buckets.b.s3.long_operation_timeout", "0.5")
        .set("buckets.b.s3.retry.budget.percent", "0")
        .set("buckets.b.s3.retry.budget.min_per_second", "0")
        .set("buckets.b.s3.retry.budget.min_concurrent", "0")
        .set("admin.max_stream_clients", "1")
        .start()
        .await;
    let copy = [("x-amz-copy-source", "/b/j")];
    let answer = crate::support::request(gateway.address(), "PUT", "/b/k", &copy, Some(&b""[..])).await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_long_operation"));
    with_hits(&gateway, "buckets.b.s3.long_operation_timeout", 1).await;
    for key in ["server.request_timeout", "buckets.b.s3.timeout"] {
        assert_eq!(last_hour(&gateway, key).await["hits"], 0, "{key}");
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 503);
    let retries = with_hits(&gateway, "buckets.b.s3.retry.budget.percent", 1).await;
    assert_eq!(retries["hit"], "retries not allowed");

    let mut watcher = Client::connect(gateway.admin_address()).await;
    watcher.send(client::message("GET", "/status/stream", &[], None)).await;
    assert_eq!(watcher.head().await.status, 200);
    assert_eq!(gateway.admin("/status/stream").await.complete_status(), 503);
    let streams = with_hits(&gateway, "admin.max_stream_clients", 1).await;
    assert_eq!((&streams["peak"], &streams["limit"]), (&json!(1.0), &json!(1.0)));
    for key in ["shedding.target_wait_ms", "buckets.b.s3.concurrency.shedding.target_wait_ms"] {
        let hour = last_hour(&gateway, key).await;
        assert_eq!((&hour["hits"], &hour["unit"]), (&json!(0), &json!("ms")), "{key}");
    }
    wait_for("the wait is known", || async {
        last_hour(&gateway, "shedding.target_wait_ms").await["peak"].as_f64()
    })
    .await;
}

/// G2: thresholds of circuits and ejections have the failures in a row, and what they caused
#[tokio::test]
async fn failures_are_tracked_against_their_thresholds() {
    let (good, bad) = (Upstream::ok("x"), Upstream::start(|_| UpstreamReply::status(500)));
    let gateway = Gateway::builder()
        .bucket("b", &bad)
        .bucket_at("pair", &[good.address(), bad.address()])
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "4")
        .set("buckets.pair.s3.outlier_ejection.consecutive_failures", "3")
        .start()
        .await;
    let threshold = "buckets.b.s3.circuit_breaker.failure_threshold";
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    let near = wait_for("three failures in a row", || async {
        let hour = last_hour(&gateway, threshold).await;
        (hour["peak"] == 3.0).then_some(hour)
    })
    .await;
    assert_eq!((&near["hits"], &near["limit"]), (&json!(0), &json!(4.0)), "{near}");
    assert_eq!(near["unit"], "failures in a row", "{near}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    let hit = with_hits(&gateway, threshold, 1).await;
    assert_eq!((&hit["peak"], &hit["hit"]), (&json!(4.0), &json!("openings of a circuit")), "{hit}");
    let rate = last_hour(&gateway, "buckets.b.s3.circuit_breaker.failure_rate_threshold").await;
    assert_eq!((&rate["hits"], &rate["peak"]), (&json!(0), &Value::Null), "{rate}");
    let single = last_hour(&gateway, "buckets.b.s3.outlier_ejection.consecutive_failures").await;
    assert_eq!(single, Value::Null, "a single endpoint is never ejected");

    let threshold = "buckets.pair.s3.outlier_ejection.consecutive_failures";
    let ejected = wait_for("an endpoint is ejected", || async {
        assert_eq!(gateway.get("/pair/k").await.complete_status(), 200, "a retry succeeds");
        let hour = last_hour(&gateway, threshold).await;
        (hour["hits"] == 1).then_some(hour)
    })
    .await;
    assert_eq!((&ejected["peak"], &ejected["limit"]), (&json!(3.0), &json!(3.0)), "{ejected}");
    assert_eq!(ejected["hit"], "ejections of an endpoint", "{ejected}");
}

/// G2: the bursts of keys and of failed authentications have the peak of the client that used most
#[tokio::test]
async fn bursts_of_identities_have_peaks() {
    const SECRET: &str = "0123456789abcdef-app";
    let upstream = Upstream::ok("x");
    let mut builder = Gateway::builder().bucket("b", &upstream).set("buckets.b.auth", "api_key");
    for (key, value) in [
        ("api_keys.app.secret", SECRET),
        ("api_keys.app.policy", "apps"),
        ("policies.apps.buckets", "*"),
        ("policies.apps.methods", "read"),
        ("rate_limit.per_key.requests_per_second", "0.001"),
        ("rate_limit.per_key.burst", "10"),
        ("rate_limit.failed_auth.requests_per_second", "0.001"),
        ("rate_limit.failed_auth.burst", "8"),
    ] {
        builder = builder.set(key, value);
    }
    let gateway = builder.start().await;
    let send = async |secret: &'static str| {
        let headers = [("x-api-key", secret)];
        crate::support::request(gateway.address(), "GET", "/b/k", &headers, None).await.complete_status()
    };
    for _ in 0..3 {
        assert_eq!(send(SECRET).await, 200);
    }
    for _ in 0..2 {
        assert_eq!(send("0123456789abcdef-bad").await, 401);
    }
    for (key, used, limit) in
        [("rate_limit.per_key.burst", 3.0, 10.0), ("rate_limit.failed_auth.burst", 2.0, 8.0)]
    {
        let hour = wait_for(&format!("the peak of {key}"), || async {
            let hour = last_hour(&gateway, key).await;
            hour["peak"].as_f64().is_some_and(|peak| peak >= used).then_some(hour)
        })
        .await;
        assert_eq!((&hour["peak"], &hour["limit"]), (&json!(used), &json!(limit)), "{hour}");
        assert_eq!((&hour["hits"], &hour["unit"]), (&json!(0), &json!("tokens")), "{hour}");
    }
}

/// G2: `tidegate config --running` adds the last hour of each limit, and a value that differs in the running gateway
#[tokio::test]
async fn the_command_shows_the_last_hour() {
    let upstream = Upstream::ok("x");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("server.max_concurrent_requests", "77").start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    wait_for("a peak", || async {
        last_hour(&gateway, "server.max_concurrent_requests").await["peak"]
            .as_f64()
            .filter(|peak| *peak > 0.0)
    })
    .await;
    let run = |arguments: &[&str]| {
        let builder =
            arguments.iter().fold(Gateway::builder().argument("config"), |all, one| all.argument(one));
        tokio::task::spawn_blocking(move || builder.run())
    };
    let running = format!("--running=http://{}", gateway.admin_address());
    let text = run(&["--origin", &running, "server.max_concurrent", "buckets"]).await.unwrap();
    assert_eq!(text.code, Some(2), "the command's own configuration has no bucket: {text:?}");
    let text = run(&["--origin", &running, "server.max_concurrent"]).await.unwrap();
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""));
    for line in [
        "# the running gateway has 77",
        "# in the last 0 minutes: 0 requests refused, peak 1 of 77 requests",
        "server.max_concurrent_requests = 1000 # default",
    ] {
        assert!(text.stdout.lines().any(|found| found == line), "{line} in {}", text.stdout);
    }
    let json = run(&["--json", &running, "server.max_concurrent"]).await.unwrap();
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["keys"][0]["value"], 77, "{document}");
    let nobody = crate::support::unreachable::RefusingAddress::new();
    let failed = run(&[&format!("--running=http://{}", nobody.address)]).await.unwrap();
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.stderr.contains(&nobody.address.to_string()), "{}", failed.stderr);
}
