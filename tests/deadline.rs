//! Client deadlines in `x-request-timeout`: what they cut, the header sent upstream, and what they do not affect; also
//! the separate timeout for operations that take stores minutes.

use std::time::{Duration, Instant};

use crate::support::gateway::Builder;
use crate::support::{Gateway, Latch, Response, Upstream, UpstreamReply, request, wait_for};

const NAME: &str = "x-request-timeout";

async fn send_request(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let body = matches!(method, "PUT" | "POST").then_some(&b""[..]);
    request(gateway.address(), method, target, headers, body).await
}

async fn get_within(gateway: &Gateway, time: &str) -> Response {
    send_request(gateway, "GET", "/b/k", &[(NAME, time)]).await
}

/// Seconds in the header sent upstream, request by request.
fn sent_deadlines(upstream: &Upstream) -> Vec<Option<f64>> {
    upstream.seen().iter().map(|seen| seen.header(NAME).map(|left| left.parse().unwrap())).collect()
}

fn gateway_before(upstream: &Upstream) -> Builder {
    Gateway::builder().bucket("b", upstream).set("buckets.b.s3.retry.max_attempts", "1")
}

/// T1, T3: at the client's deadline the answer is 504, and the upstream call is dropped at once
#[tokio::test]
async fn a_client_deadline_ends_the_request() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = gateway_before(&upstream).start().await;
    for time in ["0.3", "300ms", "0.3s"] {
        let began = Instant::now();
        let answer = get_within(&gateway, time).await;
        assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_deadline"), "{time}");
        assert!(began.elapsed() >= Duration::from_millis(300), "{time}");
        wait_for("its connection is closed", || async { (upstream.open_connections() == 0).then_some(()) })
            .await;
    }
    assert_eq!(upstream.cancelled(), 3);
    gateway.wait_until_idle().await;
}

/// T1, R2: each attempt sends the remaining time. Envoy sends the whole time again (envoyproxy/envoy#13196)
#[tokio::test]
async fn every_attempt_sends_the_remaining_time() {
    let pause = Duration::from_millis(300);
    let upstream =
        Upstream::sequence(vec![UpstreamReply::status(503).delayed(pause), UpstreamReply::ok("x")]);
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(get_within(&gateway, "10").await.complete_status(), 200);
    let sent_deadlines: Vec<f64> = sent_deadlines(&upstream).into_iter().flatten().collect();
    assert_eq!(sent_deadlines.len(), 2, "{sent_deadlines:?}");
    assert!(
        sent_deadlines[0] <= 10.0 && sent_deadlines[1] <= sent_deadlines[0] - 0.3 && sent_deadlines[1] > 0.0,
        "{sent_deadlines:?}"
    );
    assert_eq!(get_within(&gateway, "10s").await.complete_status(), 200);
    let spelled = upstream.last().header(NAME).unwrap().to_owned();
    assert!(spelled.ends_with("ms"), "{spelled}: Go's header form is answered in Go's form");
}

/// T1: a client deadline is capped by the bucket's total timeout; without a client deadline no header is sent upstream
#[tokio::test]
async fn a_client_deadline_is_capped_by_the_bucket() {
    let upstream = Upstream::start(|seen| {
        if seen.target == "/b/hang" { UpstreamReply::hang() } else { UpstreamReply::ok("x") }
    });
    let gateway = gateway_before(&upstream).set("server.request_timeout", "0.5").start().await;
    let answer = send_request(&gateway, "GET", "/b/hang", &[(NAME, "1h")]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_total"));
    assert_eq!(get_within(&gateway, "3600").await.complete_status(), 200);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let seen = upstream.seen();
    let left: u64 = seen[0].header(NAME).unwrap().trim_end_matches("ms").parse().unwrap();
    assert!(left <= 500, "{left}");
    assert!(seen[1].header(NAME).unwrap().parse::<f64>().unwrap() <= 0.5);
    assert_eq!(seen[2].header(NAME), None);
}

/// T1, E1: an invalid duration is refused and named; ignoring it would make the client wait longer than it expects
#[tokio::test]
async fn an_invalid_deadline_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for time in ["soon", "-1", "1e9", "1.5.5", "NaN", "99999999999999999999", "1d", " "] {
        let answer = get_within(&gateway, time).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "deadline"), "{time}");
        assert!(answer.text().contains(NAME) && answer.text().contains("250ms"), "{}", answer.text());
    }
    let twice = send_request(&gateway, "GET", "/b/k", &[(NAME, "1"), (NAME, "2")]).await;
    assert_eq!((twice.complete_status(), twice.reason()), (400, "deadline"));
    assert_eq!(upstream.count(), 0);
}

/// T1: a deadline of 0 has expired, unlike Envoy's `x-envoy-upstream-rq-timeout-ms`, where 0 disables it; the upstream
/// is not called
#[tokio::test]
async fn a_deadline_of_zero_expires_before_the_upstream_call() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for time in ["0", "0ms", "0.0"] {
        let answer = get_within(&gateway, time).await;
        assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_deadline"), "{time}");
    }
    assert_eq!(upstream.count(), 0);
    gateway.wait_until_idle().await;
}

/// T1, P3: a request with a deadline that passes in the queue is not sent
#[tokio::test]
async fn a_request_that_expires_in_the_queue_is_not_sent() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway = gateway_before(&upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "1000")
        .start()
        .await;
    let first = tokio::spawn(crate::support::get(gateway.address(), "/b/first"));
    upstream.wait_until_in_flight(1).await;
    let (late, ()) = tokio::join!(get_within(&gateway, "0.3"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        latch.open_for_all();
    });
    assert!(matches!(late.complete_status(), 503 | 504), "{late:?}");
    assert_eq!(first.await.unwrap().complete_status(), 200);
    assert_eq!(upstream.count(), 1);
    gateway.wait_until_idle().await;
}

/// T1, B3: a client deadline that expires is not counted as an upstream failure
#[tokio::test]
async fn a_client_deadline_opens_no_circuit() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway =
        gateway_before(&upstream).set("buckets.b.s3.circuit_breaker.failure_threshold", "1").start().await;
    for _ in 0..8 {
        assert_eq!(get_within(&gateway, "20ms").await.reason(), "timeout_deadline");
    }
    latch.open_for_all();
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// T5: a client deadline ends with the first byte, like the total timeout: a long answer is not cut
#[tokio::test]
async fn a_client_deadline_does_not_cut_a_started_answer() {
    let pause = Duration::from_millis(200);
    let upstream = Upstream::start(move |_| {
        (0..5).fold(UpstreamReply::ok("piece"), |reply, _| reply.then_body_after(pause, "piece"))
    });
    let gateway = gateway_before(&upstream).start().await;
    let answer = get_within(&gateway, "0.5").await;
    assert_eq!((answer.complete_status(), answer.text()), (200, "piece".repeat(6)));
}

/// T1, V7: a bucket may keep the deadline within the gateway, or forward the header to an API that gives it another
/// meaning
#[tokio::test]
async fn a_bucket_configures_the_deadline_header() {
    for (word, time, status, arrives) in [
        ("keep", "5", 200, None),
        ("keep", "soon", 400, None),
        ("ignore", "soon", 200, Some("soon")),
        ("ignore", "0", 200, Some("0")),
    ] {
        let upstream = Upstream::ok("x");
        let gateway =
            Gateway::builder().http_bucket("b", &upstream).set("buckets.b.http.client_deadline", word);
        let gateway = gateway.start().await;
        assert_eq!(get_within(&gateway, time).await.complete_status(), status, "{word} {time}");
        let seen = upstream.seen();
        assert_eq!(seen.first().and_then(|seen| seen.header(NAME)), arrives, "{word} {time}");
    }
}

/// T2: copies and CompleteMultipartUpload have a separate timeout; neither the first-byte nor the total timeout cuts
/// them, and they are not slow calls
#[tokio::test]
async fn long_operations_have_their_own_timeout() {
    let document = "<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>";
    let upstream = Upstream::start(move |_| UpstreamReply::ok(document).delayed(Duration::from_millis(900)));
    let gateway = gateway_before(&upstream)
        .set("server.request_timeout", "0.4")
        .set("buckets.b.s3.timeout", "0.4")
        .set("buckets.b.s3.long_operation_timeout", "15")
        .set("buckets.b.s3.circuit_breaker.slow_call_duration_ms", "100")
        .set("buckets.b.s3.circuit_breaker.minimum_calls", "1")
        .start()
        .await;
    let source = [("x-amz-copy-source", "/b/j")];
    for (method, target, headers) in [
        ("PUT", "/b/k", &source[..]),
        ("PUT", "/b/k?partNumber=1&uploadId=u", &source[..]),
        ("POST", "/b/k?uploadId=u", &[]),
    ] {
        let answer = send_request(&gateway, method, target, headers).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, document), "{method} {target}");
    }
    for (method, target) in
        [("PUT", "/b/k"), ("POST", "/b/k?uploads"), ("PUT", "/b/k?partNumber=1&uploadId=u")]
    {
        let answer = send_request(&gateway, method, target, &[]).await;
        assert_eq!(answer.complete_status(), 504, "{method} {target}");
    }
}

/// T2, T3: the timeout of long operations and the client's deadline still end them
#[tokio::test]
async fn long_operations_time_out() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = gateway_before(&upstream)
        .set("server.request_timeout", "0.2")
        .set("buckets.b.s3.timeout", "0.2")
        .set("buckets.b.s3.long_operation_timeout", "0.5")
        .start()
        .await;
    let began = Instant::now();
    let answer = send_request(&gateway, "PUT", "/b/k", &[("x-amz-copy-source", "/b/j")]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_long_operation"));
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"timeout_long_operation\"}").await, 1.0);
    let answer = send_request(&gateway, "POST", "/b/k?uploadId=u", &[(NAME, "100ms")]).await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_deadline"));
    wait_for("its connection is closed", || async { (upstream.open_connections() == 0).then_some(()) }).await;
}

/// T5: a bucket is a route: two buckets on one upstream have separate timeouts
#[tokio::test]
async fn buckets_on_one_upstream_have_separate_timeouts() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/events" => {
            UpstreamReply::ok("first").then_body_after(Duration::from_millis(900), "second").chunked()
        }
        _ => UpstreamReply::hang(),
    });
    let gateway = Gateway::builder()
        .http_bucket("live", &upstream)
        .set("buckets.live.http.idle_timeout", "20")
        .http_bucket("quick", &upstream)
        .set("buckets.quick.http.idle_timeout", "0.3")
        .set("buckets.quick.http.timeout", "0.3")
        .set("buckets.quick.http.retry.max_attempts", "1")
        .start()
        .await;
    let live = gateway.get("/live/events").await;
    assert_eq!((live.complete_status(), live.text().as_str()), (200, "firstsecond"));
    let quick = gateway.get("/quick/events").await;
    assert!(quick.broken.is_some(), "{quick:?}");
    assert_eq!(gateway.get("/quick/hang").await.reason(), "timeout_first_byte");
}
