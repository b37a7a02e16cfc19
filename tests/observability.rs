//! Observability: access log, request IDs, metrics, status and health paths.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, get, request};

/// O2: one access line per request, with everything needed to find out what happened to it
#[tokio::test]
async fn the_access_line_is_complete() {
    let upstream = Upstream::sequence(vec![UpstreamReply::status(503), UpstreamReply::ok("0123456789")]);
    let gateway = Gateway::in_front_of(&upstream).await;
    let headers = [("x-request-id", "a-put")];
    assert_eq!(
        request(gateway.address(), "PUT", "/b/k?x=1", &headers, Some(b"abc")).await.complete_status(),
        200
    );
    let line = gateway.wait_for_access_line("a-put").await;
    for (field, value) in [
        ("level", Value::from("INFO")),
        ("method", "PUT".into()),
        ("path", "/b/k".into()),
        ("query", "x=1".into()),
        ("bucket", "b".into()),
        ("status", 200.into()),
        ("client", "127.0.0.1".into()),
        ("client_source", "peer".into()),
        ("received_bytes", 3.into()),
        ("sent_bytes", 10.into()),
        ("attempts", 2.into()),
        ("class", "write".into()),
        ("cost", 1.into()),
        ("priority", "normal".into()),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    for field in ["admission_us", "queue_us", "first_byte_us", "total_us"] {
        assert!(line[field].is_u64(), "{field} of {line}");
    }
    assert!(line["total_us"].as_u64() >= line["first_byte_us"].as_u64(), "{line}");
    assert_eq!(line.get("reason"), None, "the gateway made no decision");
    assert_attempts(&line);
    let stamp = line["ts"].as_str().unwrap();
    assert!(stamp.len() == 24 && stamp.starts_with("20") && stamp.ends_with('Z'), "{stamp}");
}

/// The line has both attempts, and its start is its end less its duration.
fn assert_attempts(line: &Value) {
    let detail = line["attempts_detail"].as_str().unwrap();
    let attempts: Vec<Vec<&str>> = detail.split(',').map(|attempt| attempt.split(':').collect()).collect();
    assert_eq!(
        attempts.iter().map(|parts| &parts[..2]).collect::<Vec<_>>(),
        [["0", "503"], ["0", "200"]],
        "{detail}"
    );
    assert!(attempts.iter().all(|parts| parts[2].parse::<u64>().is_ok()), "{detail}");
    let start = i128::from(line["start_us"].as_u64().unwrap()) * 1000;
    let written =
        OffsetDateTime::parse(line["ts"].as_str().unwrap(), &Rfc3339).unwrap().unix_timestamp_nanos();
    let took = i128::from(line["total_us"].as_u64().unwrap()) * 1000;
    assert!((written - start - took).abs() < 1_000_000_000, "{line}");
}

/// O2: a line without a failed attempt has no details, and a request without a bucket has a class
#[tokio::test]
async fn an_ordinary_line_is_short() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.rate_limit.requests_per_second", "1000")
        .set("buckets.b.rate_limit.cost.list", "7")
        .start()
        .await;
    for (id, target, class, cost) in [
        ("read", "/b/k", "read", 1),
        ("list", "/b/?list-type=2", "list", 7),
        ("none", "/nowhere/k", "read", 1),
    ] {
        request(gateway.address(), "GET", target, &[("x-request-id", id)], None).await;
        let line = gateway.wait_for_access_line(id).await;
        assert_eq!((&line["class"], &line["cost"]), (&class.into(), &cost.into()), "{line}");
        assert_eq!(line.get("attempts_detail"), None, "{line}");
        assert_eq!(line.get("priority").is_some(), id != "none", "{line}");
    }
}

/// O2, O4: the log line, header, body and metric of a refusal have the same reason and ID
#[tokio::test]
async fn a_refusal_has_the_same_reason_everywhere() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.rate_limit.requests_per_second", "0.001")
        .set("buckets.b.rate_limit.burst", "1")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let answer = gateway.get("/b/k").await;
    let id = answer.header("x-request-id").unwrap();
    assert!(answer.text().contains(&format!("<RequestId>{id}</RequestId>")));
    let line = gateway.wait_for_access_line(id).await;
    assert_eq!((line["reason"].as_str(), &line["status"]), (Some(answer.reason()), &429.into()));
    assert_eq!((&line["attempts"], line.get("queue_us")), (&0.into(), None));
    let metric = format!("errors_total{{bucket=\"b\",reason=\"{}\"}}", answer.reason());
    assert_eq!(gateway.metric(&metric).await, 1.0);
    assert_eq!(gateway.metric("requests_total{bucket=\"b\",class=\"4xx\"}").await, 1.0);
}

/// O1: a valid request ID is kept, an invalid one replaced
#[tokio::test]
async fn only_valid_request_ids_are_kept() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let answered = async |sent: &str| {
        let answer = request(gateway.address(), "GET", "/b/k", &[("x-request-id", sent)], None).await;
        assert_eq!(answer.complete_status(), 200);
        answer.header("x-request-id").unwrap().to_owned()
    };
    let longest = "x".repeat(128);
    for sound in ["a", "A-b_c.9", &longest] {
        assert_eq!(answered(sound).await, sound);
    }
    let too_long = "x".repeat(129);
    for unsound in ["", "a b", "a\"b", "a,b", "{\"x\":1}", "<script>", "é", &too_long] {
        let made = answered(unsound).await;
        assert!(
            made != unsound && made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()),
            "{unsound:?}: {made}"
        );
    }
}

/// O2, C4: credentials in queries are redacted; headers are not logged at all
#[tokio::test]
async fn signatures_are_redacted() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let target = "/b/k?versionId=7&X-Amz-Signature=SECRET1&X-Amz-Credential=SECRET2&x-amz-security-token=SECRET3\
                  &signature=SECRET4&token=SECRET5&access_token=SECRET6";
    let headers = [
        ("x-request-id", "signed"),
        ("authorization", "Bearer SECRET7"),
        ("cookie", "SECRET8"),
        ("x-tidegate-session", "SECRET9"),
    ];
    assert_eq!(request(gateway.address(), "GET", target, &headers, None).await.complete_status(), 200);
    let line = gateway.wait_for_access_line("signed").await;
    let query = line["query"].as_str().unwrap();
    assert!(query.starts_with("versionId=7&X-Amz-Signature=redacted&"), "{query}");
    let everything = format!(
        "{:?}{}{}{}",
        gateway.log_lines(),
        gateway.status().await,
        gateway.metrics().await,
        gateway.stderr()
    );
    assert!(!everything.contains("SECRET"), "{everything}");
}

/// O2: no client input forges a line or a field
#[tokio::test]
async fn client_input_forges_no_line() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let forged = "\",\"status\":200,\"level\":\"ERROR\"}";
    let paths = [
        "/b/k%22,%22status%22:200%7D%0A%7B%22msg%22:%22forged%22%7D".to_owned(),
        format!("/b/k{forged}"),
        "/b/k?a=\\&b={},'status':200".to_owned(),
        "/b/\\u0022\\n".to_owned(),
    ];
    for (i, path) in paths.iter().enumerate() {
        let id = format!("forger-{i}");
        let answer =
            request(gateway.address(), "GET", path, &[("x-request-id", &id), ("user-agent", forged)], None)
                .await;
        let line = gateway.wait_for_access_line(&id).await;
        assert_eq!(line["status"], answer.complete_status(), "{path}");
        assert_eq!(line["level"], "INFO", "{path}");
    }
    // Every line must be one JSON object: `log_lines` fails otherwise.
    let lines = gateway.log_lines();
    assert!(lines.iter().all(|line| line["msg"] != "forged"));
    assert_eq!(lines.iter().filter(|line| line["msg"] == "request").count(), paths.len());
}

/// O3: every documented metric of the request path exists, histograms are cumulative, and no series grows with clients
#[tokio::test]
async fn every_documented_metric_exists() {
    let upstream = Upstream::ok("0123456789");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(request(gateway.address(), "PUT", "/b/k", &[], Some(b"abc")).await.complete_status(), 200);
    assert_eq!(get(gateway.address(), "/nowhere/k").await.complete_status(), 404);
    let scrape = gateway.metrics().await;
    for name in [
        "concurrency_limit_rejections_total",
        "connection_pool_size{bucket=\"b\"}",
        "connection_pool_active{bucket=\"b\"}",
        "connection_pool_idle{bucket=\"b\"}",
        "connection_pool_wait_time_seconds_count{bucket=\"b\"}",
        "connection_pool_wait_time_seconds_bucket{bucket=\"b\",le=\"+Inf\"}",
        "s3_retry_attempts_total{bucket=\"b\"}",
        "s3_retry_success_total{bucket=\"b\"}",
        "s3_retry_exhausted_total{bucket=\"b\"}",
        "circuit_breaker_state{bucket=\"b\",class=\"read\"}",
        "circuit_breaker_opened_total{bucket=\"b\",class=\"read\"}",
        "circuit_breaker_failures{bucket=\"b\",class=\"read\"}",
        "rate_limit_exceeded_total{bucket=\"b\"}",
        "rate_limit_current_rate{bucket=\"b\"}",
        "file_descriptors_used",
        "memory_allocated_bytes",
        "request_queue_depth",
        "requests_in_flight",
        "degradation_level",
        "unrouted_total{reason=\"no_such_bucket\"}",
        "request_duration_seconds_count{bucket=\"b\"}",
        "request_duration_seconds_bucket{bucket=\"b\",le=\"+Inf\"}",
        "request_duration_seconds_sum{bucket=\"b\"}",
    ] {
        assert!(
            scrape.lines().any(|line| line.starts_with(&format!("tidegate_{name} "))),
            "{name} in:\n{scrape}"
        );
    }
    assert_eq!(gateway.metric("received_bytes_total{bucket=\"b\"}").await, 3.0);
    assert_eq!(gateway.metric("sent_bytes_total{bucket=\"b\"}").await, 10.0);
    assert_eq!(gateway.metric("requests_total{bucket=\"b\",class=\"2xx\"}").await, 1.0);
    assert!(gateway.metric("memory_allocated_bytes").await > 1e6);
    assert!(gateway.metric("file_descriptors_used").await > 5.0);
    let answer = gateway.admin("/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
}

/// X7, B5, S9: the status shows the level, its resources, every bucket and every actor
#[tokio::test]
async fn the_status_is_complete() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let status = crate::support::wait_for("the sensors have a reading", || async {
        let status = gateway.status().await;
        status["resources"]["memory"]["used"].is_u64().then_some(status)
    })
    .await;
    assert_eq!(status["level"], "normal");
    assert!(status["since_ms"].is_u64());
    assert_eq!(status["requests_in_flight"], 0);
    assert_eq!(status["switched_off"], serde_json::json!([]));
    assert!(status["transitions"].is_array());
    for resource in ["memory", "descriptors", "in_flight"] {
        let reading = &status["resources"][resource];
        for field in ["used", "limit", "pressure", "age_ms"] {
            assert!(reading[field].is_number(), "{field} of {resource}: {status}");
        }
    }
    let bucket = &status["buckets"]["b"];
    assert_eq!((&bucket["kind"], &bucket["pattern"]), (&"s3".into(), &"b".into()));
    assert_eq!(bucket["breaker"]["read"]["state"], "closed");
    assert_eq!((&bucket["pool"]["max_concurrent"], &bucket["pool"]["max_queued"]), (&50.into(), &100.into()));
    assert_eq!(bucket["pool"]["endpoints"][0]["authority"], upstream.address().to_string());
    let actors = status["actors"].as_object().unwrap();
    let mut names: Vec<&String> = actors.keys().collect();
    names.sort();
    assert_eq!(names, ["breaker:b", "limiter", "monitor", "pool:b", "sessions"]);
    for (name, actor) in actors {
        assert_eq!(
            (&actor["state"], &actor["generation"], &actor["restarts"]),
            (&"running".into(), &1.into(), &0.into()),
            "{name}"
        );
        assert_eq!(actor["mailbox_capacity"], 4096, "{name}");
        assert!(actor["mailbox_depth"].is_u64() && actor["handled"].is_u64(), "{name}");
    }
    assert_eq!(status["sessions"]["capacity"], 1000);
}

/// X2, X3: descriptors over the limit shed new requests, while health, status and metrics requests are answered
#[tokio::test]
async fn exhausted_descriptors_shed_requests_but_not_health_checks() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).exhaust_at_half_of_descriptors().start().await;
    gateway.exhaust_descriptors();
    let shed = crate::support::wait_for("requests are shed", || async {
        let answer = gateway.get("/b/k").await;
        (answer.complete_status() == 503).then_some(answer)
    })
    .await;
    assert_eq!(shed.reason(), "exhausted");
    assert!(matches!(shed.retry_after(), Some(1 | 2)), "{shed:?}");
    let status = gateway.status().await;
    assert_eq!(status["level"], "exhausted");
    assert!(status["reason"].as_str().unwrap().contains("descriptors"), "{status}");
    assert_eq!(status["transitions"].as_array().unwrap().last().unwrap()["to"], "exhausted");
    assert_eq!(gateway.metric("degradation_level").await, 3.0);
    assert!(gateway.metric("load_shed_total").await >= 1.0);
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.admin(path).await.complete_status(), 200);
    }
    gateway.wait_for_log_line("degradation level rose", |line| line["to"] == "exhausted").await;
}

/// O5: both listeners answer health paths, and no bucket can replace them
#[tokio::test]
async fn both_listeners_answer_health_paths() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (address, path, field) in [
        (gateway.address(), "/-/livez", "live"),
        (gateway.address(), "/-/readyz", "ready"),
        (gateway.admin_address(), "/livez", "live"),
        (gateway.admin_address(), "/readyz", "ready"),
    ] {
        let answer = get(address, path).await;
        assert_eq!(answer.complete_status(), 200, "{path}");
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(document[field], true, "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

/// S1, E1: the chaos endpoint exists only if it is enabled, and its errors are JSON
#[tokio::test]
async fn chaos_must_be_enabled() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let post = async |gateway: &Gateway, path: &str| {
        request(gateway.admin_address(), "POST", path, &[], Some(b"")).await
    };
    let refused = post(&gateway, "/actors/limiter/crash").await;
    assert_eq!(refused.complete_status(), 403);
    assert!(refused.text().contains("admin.chaos"), "{}", refused.text());
    assert_eq!(gateway.generation("limiter").await, 1);
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    for (path, status, word) in [
        ("/actors/nobody/crash", 404, "limiter"),
        ("/actors/pool:nobody/crash", 404, "pool:b"),
        ("/actors/limiter/crash?at=nowhere", 400, "decide, apply, applied, timer or started"),
        ("/actors/limiter/crash?victim=all", 400, "next"),
    ] {
        let answer = post(&gateway, path).await;
        assert_eq!(answer.complete_status(), status, "{path}");
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(document["error"]["message"].as_str().unwrap().contains(word), "{path}: {document}");
    }
    assert_eq!(gateway.admin("/nothing").await.complete_status(), 404);
}

/// O2: the log is written to the configured file, and no access line if the access log is off
#[tokio::test]
async fn the_log_is_written_to_the_configured_file() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("log.access", "false").start().await;
    assert_eq!(gateway.get("/b/quiet").await.complete_status(), 200);
    gateway.send_sigterm();
    gateway.wait_for_log_line("stopped", |_| true).await;
    assert!(gateway.log_lines().iter().all(|line| line["msg"] != "request"));
}

/// O5: the data listener serves no status, no metrics and no chaos
#[tokio::test]
async fn the_data_listener_serves_no_admin_endpoint() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    for path in ["/status", "/metrics", "/actors/limiter/crash", "/-/status", "/-/metrics"] {
        let mut data = Client::connect(gateway.address()).await;
        data.send(client::message("POST", path, &[], Some(b""))).await;
        assert_eq!(data.response("POST").await.complete_status(), 404, "{path}");
    }
    assert_eq!(gateway.generation("limiter").await, 1);
}
