//! Which requests are tried again, how often, and when.

use std::time::{Duration, Instant};

use crate::support::{Gateway, Response, Upstream, UpstreamReply, client, request};

const AGAIN: u16 = 503;

async fn ask(gateway: &Gateway, method: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Response {
    let answer = request(gateway.address(), method, "/b/k", headers, body).await;
    assert_eq!(answer.broken, None);
    answer
}

/// R1, R2, R6: failures are tried again, three attempts in all; the client sees the success alone
#[tokio::test]
async fn the_third_attempt_may_succeed() {
    let upstream = Upstream::sequence(vec![
        UpstreamReply::status(AGAIN),
        UpstreamReply::status(AGAIN),
        UpstreamReply::ok("at last"),
    ]);
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "at last"));
    assert_eq!(upstream.count(), 3);
    assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await, 2.0);
    assert_eq!(gateway.metric("s3_retry_success_total{bucket=\"b\"}").await, 1.0);
    assert_eq!(gateway.metric("s3_retry_exhausted_total{bucket=\"b\"}").await, 0.0);
    let line = gateway.wait_for_log_line("request", |line| line["path"] == "/b/k").await;
    assert_eq!(line["attempts"], 3);
}

/// R1, R2, R6: after three attempts the last answer is passed on as it came
#[tokio::test]
async fn after_three_attempts_the_failure_is_passed_on() {
    for status in [500, 502, 503, 504] {
        let upstream =
            Upstream::start(move |_| UpstreamReply::new(status, "why").header("x-from", "upstream"));
        let gateway = Gateway::in_front_of(&upstream).await;
        let answer = gateway.get("/b/k").await;
        assert_eq!(
            (answer.complete_status(), answer.text().as_str(), answer.header("x-from")),
            (status, "why", Some("upstream"))
        );
        assert_eq!(upstream.count(), 3, "{status}");
        assert_eq!(gateway.metric("s3_retry_exhausted_total{bucket=\"b\"}").await, 1.0);
    }
}

/// R1: what the client did wrong is not tried again, nor is an answer that is no failure
#[tokio::test]
async fn client_errors_are_not_tried_again() {
    for status in [200, 206, 304, 400, 401, 403, 404, 405, 409, 412, 416, 501] {
        let upstream = Upstream::start(move |_| UpstreamReply::status(status));
        let gateway = Gateway::in_front_of(&upstream).await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), status);
        assert_eq!(upstream.count(), 1, "{status}");
    }
}

/// R1: resets, connections closed without an answer, and timeouts before the first byte are tried again
#[tokio::test]
async fn failures_without_an_answer_are_tried_again() {
    for act in [UpstreamReply::reset(), UpstreamReply::raw(""), UpstreamReply::hang()] {
        let upstream = Upstream::sequence(vec![act.clone(), UpstreamReply::ok("x")]);
        let gateway =
            Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.timeout", "0.3").start().await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{act:?}");
        assert_eq!(upstream.count(), 2, "{act:?}");
    }
}

/// A bucket `b` with attempts enough to wait for an upstream, whose circuit they do not open.
async fn persistent(upstream: &Upstream) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.retry.max_attempts", "10")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "100")
        .start()
        .await
}

/// R1: an upstream that comes back within the attempts costs the client nothing
#[tokio::test]
async fn a_refused_connection_is_tried_again() {
    let upstream = Upstream::ok("x");
    let gateway = persistent(&upstream).await;
    upstream.stop().await;
    let address = gateway.address();
    let waiting = tokio::spawn(async move { crate::support::get(address, "/b/k").await });
    crate::support::wait_for("it is tried again", || async {
        (gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await >= 1.0).then_some(())
    })
    .await;
    upstream.start_again().await;
    assert_eq!(waiting.await.unwrap().complete_status(), 200);
}

/// R3: only idempotent methods
#[tokio::test]
async fn a_post_is_never_tried_again() {
    for (method, body, attempts) in [
        ("POST", Some(b"x".as_slice()), 1),
        ("GET", None, 3),
        ("HEAD", None, 3),
        ("PUT", Some(b"x"), 3),
        ("DELETE", None, 3),
    ] {
        let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
        let gateway = Gateway::in_front_of(&upstream).await;
        assert_eq!(ask(&gateway, method, &[], body).await.status, AGAIN);
        assert_eq!(upstream.count(), attempts, "{method}");
    }
}

/// R3: a body of at most 64 KiB is sent again byte for byte
#[tokio::test]
async fn a_small_body_is_replayed_byte_for_byte() {
    let body: Vec<u8> = (0..64 << 10).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let upstream = Upstream::sequence(vec![
        UpstreamReply::status(AGAIN),
        UpstreamReply::reset(),
        UpstreamReply::ok("stored"),
    ]);
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(ask(&gateway, "PUT", &[], Some(&body)).await.status, 200);
    let hashes: Vec<String> = upstream.seen().iter().map(crate::support::SeenRequest::sha256).collect();
    assert_eq!(hashes, vec![client::sha256(&body); 3]);
    assert!(upstream.seen().iter().all(|seen| seen.header("content-length") == Some("65536")));
}

/// R3: a larger one, or one of unknown length, is streamed and sent once
#[tokio::test]
async fn a_streamed_body_is_sent_once() {
    let body = vec![b'x'; (64 << 10) + 1];
    let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(ask(&gateway, "PUT", &[], Some(&body)).await.status, AGAIN);
    assert_eq!(upstream.count(), 1);
    assert_eq!(upstream.last().sha256(), client::sha256(&body));
    let mut chunked = client::Client::connect(gateway.address()).await;
    chunked
        .send("PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(chunked.response("PUT").await.complete_status(), AGAIN);
    assert_eq!(upstream.count(), 2);
    assert_eq!(upstream.last().body, b"abc");
}

/// R3: a streamed body that met no connection is untouched, and goes to the next one whole, whichever way it is framed
#[tokio::test]
async fn a_streamed_body_that_met_no_connection_is_tried_again() {
    let body = crate::support::random_bytes(300_000);
    let upstream = Upstream::ok("stored");
    let gateway = persistent(&upstream).await;
    let address = gateway.address();
    let mut retries = 0.0;
    for is_chunked in [false, true] {
        upstream.stop().await;
        let sent = body.clone();
        let putting = tokio::spawn(async move {
            if !is_chunked {
                return crate::support::put(address, "/b/k", &sent).await;
            }
            let mut client = client::Client::connect(address).await;
            client.send("PUT /b/k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let chunk = [format!("{:x}\r\n", sent.len()).as_bytes(), &sent, b"\r\n0\r\n\r\n"].concat();
            client.send(chunk).await;
            client.response("PUT").await
        });
        crate::support::wait_for("it is tried again", || async {
            (gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await > retries).then_some(())
        })
        .await;
        upstream.start_again().await;
        assert_eq!(putting.await.unwrap().complete_status(), 200, "chunked: {is_chunked}");
        assert_eq!(upstream.last().sha256(), client::sha256(&body));
        retries = gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await;
    }
    assert_eq!(upstream.count(), 2);
}

/// R3, P5: with another endpoint at hand an upload does not fail for one that refuses connections
#[tokio::test]
async fn an_upload_goes_on_to_an_endpoint_that_listens() {
    let body = crate::support::random_bytes(100_000);
    let refusing = crate::support::unreachable::RefusingAddress::new();
    let good = Upstream::ok("stored");
    let gateway = Gateway::builder()
        .bucket_at("b", &[refusing.address, good.address()])
        .set("buckets.b.s3.retry.initial_backoff_ms", "1")
        .start()
        .await;
    for number in 1..=8 {
        let answer = crate::support::put(gateway.address(), "/b/k", &body).await;
        assert_eq!((answer.complete_status(), good.count()), (200, number));
        assert_eq!(good.last().sha256(), client::sha256(&body));
    }
}

/// R3: one that met a connection is gone with it, however little of it was sent; and a POST is left alone either way
#[tokio::test]
async fn a_streamed_body_that_was_begun_is_not_tried_again() {
    let body = vec![b'x'; 100_000];
    let upstream = Upstream::replying_before_body(|_| UpstreamReply::reset());
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(ask(&gateway, "PUT", &[], Some(&body)).await.status, 502);
    assert_eq!(upstream.count(), 1);
    upstream.stop().await;
    assert_eq!(ask(&gateway, "POST", &[], Some(&body)).await.status, 502);
    assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await, 0.0);
}

/// R3: once a byte of the answer went on, nothing is tried again: the client sees the break
#[tokio::test]
async fn nothing_is_tried_again_after_the_first_byte_went_on() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("0123456789").cut_at(5));
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = client::Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let answer = client.try_response("GET").await;
    assert!(answer.is_none_or(|answer| answer.broken.is_some()), "a short body looks whole");
    gateway.wait_until_idle().await;
    assert_eq!(upstream.count(), 1);
}

/// R4: the upstream's Retry-After is waited for, in seconds and as a date
#[tokio::test]
async fn retry_after_is_waited_for() {
    for (is_date, least) in [(false, 1000), (true, 900)] {
        // A date has whole seconds, so of two at least one is left.
        let date = || httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(2));
        let asked = if is_date { date() } else { "1".to_owned() };
        let upstream = Upstream::sequence(vec![
            UpstreamReply::status(AGAIN).header("retry-after", &asked),
            UpstreamReply::ok("x"),
        ]);
        let gateway = Gateway::in_front_of(&upstream).await;
        let began = Instant::now();
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{asked}");
        assert!(began.elapsed() >= Duration::from_millis(least), "{asked}: after {:?}", began.elapsed());
        assert_eq!(upstream.count(), 2);
    }
}

/// R4: asked for more than five seconds, or for more than is left of the total, the gateway passes the answer on at once
#[tokio::test]
async fn too_long_a_retry_after_is_passed_on() {
    for (asked, total) in [("6", "30"), ("3", "2")] {
        let upstream = Upstream::start(move |_| UpstreamReply::status(AGAIN).header("retry-after", asked));
        let gateway =
            Gateway::builder().bucket("b", &upstream).set("server.request_timeout", total).start().await;
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.header("retry-after")), (AGAIN, Some(asked)));
        assert_eq!(upstream.count(), 1, "{asked} of {total}");
    }
}

/// R3: a write that depends on what is there is tried once, whichever header says so, also in the query of a presigned URL; without the
/// header it is tried three times
#[tokio::test]
async fn a_conditional_write_is_tried_once() {
    let write = async |method: &str, target: &str, headers: &[(&str, &str)]| {
        let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
        let gateway = Gateway::in_front_of(&upstream).await;
        let body: Option<&[u8]> = (method != "GET").then_some(b"x");
        let answer = request(gateway.address(), method, target, headers, body).await;
        assert_eq!(answer.complete_status(), AGAIN, "{target} {headers:?}");
        upstream.count()
    };
    for name in [
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "x-amz-if-match-last-modified-time",
        "x-amz-if-match-size",
        "x-amz-write-offset-bytes",
        "x-goog-if-generation-match",
    ] {
        for method in ["PUT", "DELETE"] {
            assert_eq!(write(method, "/b/k", &[(name, "1")]).await, 1, "{method} {name}");
        }
    }
    assert_eq!(write("PUT", "/b/k?X-Amz-Write-Offset-Bytes=7", &[]).await, 1);
    let copy = [("x-amz-copy-source", "/b/k"), ("x-amz-copy-source-if-unmodified-since", "x")];
    assert_eq!((write("PUT", "/b/k", &copy).await, write("PUT", "/b/k", &copy[..1]).await), (1, 3));
    assert_eq!(write("PUT", "/b/k", &[("x-amz-acl", "private")]).await, 3);
    assert_eq!(
        write("GET", "/b/k", &[("if-none-match", "1")]).await,
        3,
        "a conditional read changes nothing"
    );
}

/// R1, B3: the store's own words: SlowDown is tried again and is no failure, RequestTimeout (400) is transient, any other 400 is not
#[tokio::test]
async fn s3s_own_error_codes_are_understood() {
    for (status, code, attempts) in
        [(503, "SlowDown", 3), (400, "RequestTimeout", 3), (400, "InvalidRequest", 1)]
    {
        let upstream = Upstream::start(move |_| UpstreamReply::s3_error(status, code));
        let gateway = Gateway::in_front_of(&upstream).await;
        let answer = gateway.get("/b/k").await;
        assert_eq!(answer.complete_status(), status);
        assert!(
            answer.text().contains(&format!("<Code>{code}</Code>")),
            "the document passes on: {}",
            answer.text()
        );
        assert_eq!(upstream.count(), attempts, "{code}");
        assert_eq!(
            gateway.status().await["buckets"]["b"]["breaker"]["read"]["consecutive_failures"],
            0,
            "{code}"
        );
    }
}

/// R6, R7: a client that is itself retrying is not multiplied, whichever way it says so, and that is counted
#[tokio::test]
async fn a_retrying_client_is_not_multiplied() {
    for (name, sent, attempts) in [
        ("amz-sdk-request", "attempt=1; max=3", 3),
        ("amz-sdk-request", "attempt=2; max=3", 1),
        ("amz-sdk-request", "ttl=20261121T000000Z; attempt=3", 1),
        ("x-goog-api-client", "gl-python/3.12 gccl/2.18 gccl-attempt-count/2", 1),
        ("x-stainless-retry-count", "0", 3),
        ("x-stainless-retry-count", "1", 1),
        ("x-envoy-attempt-count", "2", 1),
    ] {
        let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
        let gateway = Gateway::in_front_of(&upstream).await;
        assert_eq!(ask(&gateway, "GET", &[(name, sent)], None).await.status, AGAIN);
        assert_eq!(upstream.count(), attempts, "{name}: {sent}");
        let left = gateway.metric("retry_left_to_client_total{bucket=\"b\"}").await;
        assert_eq!(left, if attempts == 1 { 1.0 } else { 0.0 }, "{name}: {sent}");
    }
}

/// R2: the number of attempts is configured, and one means none is repeated
#[tokio::test]
async fn the_number_of_attempts_is_configured() {
    for attempts in [1, 2, 5] {
        let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("buckets.b.s3.retry.max_attempts", &attempts.to_string())
            .set("buckets.b.s3.circuit_breaker.failure_threshold", "100")
            .start()
            .await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), AGAIN);
        assert_eq!(upstream.count(), attempts);
    }
}

/// R1, B2: attempts stop when the circuit opens under them
#[tokio::test]
async fn an_opening_circuit_ends_the_attempts() {
    // Time for the breaker to hear of one attempt before the next.
    let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN).header("retry-after", "1"));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "2")
        .start()
        .await;
    let answer = gateway.get("/b/k").await;
    assert_eq!(answer.complete_status(), 503);
    assert_eq!(upstream.count(), 2);
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
}

/// R3, P5: a retry goes to another endpoint where there is one
#[tokio::test]
async fn a_retry_goes_to_another_endpoint() {
    let bad = Upstream::start(|_| UpstreamReply::status(500));
    let good = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket_at("b", &[bad.address(), good.address()])
        .set("buckets.b.s3.retry.max_attempts", "2")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "1000")
        .start()
        .await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!(good.count(), 10);
}
