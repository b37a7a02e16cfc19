//! Retries: for which requests, how often, and when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Response, Upstream, UpstreamReply, client, request};

const AGAIN: u16 = 503;

async fn send_request(
    gateway: &Gateway,
    method: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Response {
    let answer = request(gateway.address(), method, "/b/k", headers, body).await;
    assert_eq!(answer.broken, None);
    answer
}

/// R1, R2, R6: failures are retried, three attempts in all; the client gets only the success
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

/// R1, R2, R6: after three attempts the last answer is forwarded unchanged
#[tokio::test]
async fn after_three_attempts_the_failure_is_forwarded() {
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

/// R1: client errors and successful answers are not retried
#[tokio::test]
async fn client_errors_are_not_retried() {
    for status in [200, 206, 304, 400, 401, 403, 404, 405, 409, 412, 416, 501] {
        let upstream = Upstream::start(move |_| UpstreamReply::status(status));
        let gateway = Gateway::in_front_of(&upstream).await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), status);
        assert_eq!(upstream.count(), 1, "{status}");
    }
}

/// R1: resets, connections closed without an answer, and timeouts before the first byte are retried
#[tokio::test]
async fn failures_without_an_answer_are_retried() {
    for reply in [UpstreamReply::reset(), UpstreamReply::raw(""), UpstreamReply::hang()] {
        let upstream = Upstream::sequence(vec![reply.clone(), UpstreamReply::ok("x")]);
        let gateway =
            Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.timeout", "0.3").start().await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{reply:?}");
        assert_eq!(upstream.count(), 2, "{reply:?}");
    }
}

/// A bucket `b` with enough attempts to wait for an upstream, and a circuit that these do not open.
async fn persistent(upstream: &Upstream) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.retry.max_attempts", "10")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "100")
        .start()
        .await
}

/// R1: an upstream that recovers within the attempts causes no client error
#[tokio::test]
async fn a_refused_connection_is_retried() {
    let upstream = Upstream::ok("x");
    let gateway = persistent(&upstream).await;
    upstream.stop().await;
    let address = gateway.address();
    let waiting = tokio::spawn(async move { crate::support::get(address, "/b/k").await });
    crate::support::wait_for("the request is retried", || async {
        (gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await >= 1.0).then_some(())
    })
    .await;
    upstream.start_again().await;
    assert_eq!(waiting.await.unwrap().complete_status(), 200);
}

/// R3: only idempotent methods are retried
#[tokio::test]
async fn a_post_is_never_retried() {
    for (method, body, attempts) in [
        ("POST", Some(b"x".as_slice()), 1),
        ("GET", None, 3),
        ("HEAD", None, 3),
        ("PUT", Some(b"x"), 3),
        ("DELETE", None, 3),
    ] {
        let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
        let gateway = Gateway::in_front_of(&upstream).await;
        assert_eq!(send_request(&gateway, method, &[], body).await.status, AGAIN);
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
    assert_eq!(send_request(&gateway, "PUT", &[], Some(&body)).await.status, 200);
    let hashes: Vec<String> = upstream.seen().iter().map(crate::support::SeenRequest::sha256).collect();
    assert_eq!(hashes, vec![client::sha256(&body); 3]);
    assert!(upstream.seen().iter().all(|seen| seen.header("content-length") == Some("65536")));
}

/// R3: a larger body, or one of unknown length, is streamed and sent once
#[tokio::test]
async fn a_streamed_body_is_sent_once() {
    let body = vec![b'x'; (64 << 10) + 1];
    let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(send_request(&gateway, "PUT", &[], Some(&body)).await.status, AGAIN);
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

/// R3: a streamed body is retried whole if no connection was made, in any framing
#[tokio::test]
async fn a_streamed_body_is_retried_after_a_failed_connect() {
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
        crate::support::wait_for("the request is retried", || async {
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

/// R3, P5: with a second endpoint an upload does not fail because one refuses connections
#[tokio::test]
async fn an_upload_is_retried_at_another_endpoint() {
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

/// R3: a streamed body is not retried once a connection was made, however little was sent; a POST is never retried
#[tokio::test]
async fn a_started_streamed_body_is_not_retried() {
    let body = vec![b'x'; 100_000];
    let upstream = Upstream::replying_before_body(|_| UpstreamReply::reset());
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(send_request(&gateway, "PUT", &[], Some(&body)).await.status, 502);
    assert_eq!(upstream.count(), 1);
    upstream.stop().await;
    assert_eq!(send_request(&gateway, "POST", &[], Some(&body)).await.status, 502);
    assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await, 0.0);
}

/// R3: after the first forwarded byte of an answer there is no retry: the client gets a broken transfer
#[tokio::test]
async fn there_is_no_retry_after_the_first_forwarded_byte() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("0123456789").cut_at(5));
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = client::Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let answer = client.try_response("GET").await;
    assert!(answer.is_none_or(|answer| answer.broken.is_some()), "a truncated body looks complete");
    gateway.wait_until_idle().await;
    assert_eq!(upstream.count(), 1);
}

/// R4: a retry waits for the upstream's Retry-After, in seconds and as a date
#[tokio::test]
async fn a_retry_waits_for_retry_after() {
    for (is_date, least) in [(false, 1000), (true, 900)] {
        // A date has whole seconds, so at least one of two is left. It counts from the answer.
        let date = || httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(2));
        let is_first = AtomicBool::new(true);
        let upstream = Upstream::start(move |_| match is_first.swap(false, Ordering::Relaxed) {
            true => UpstreamReply::status(AGAIN)
                .header("retry-after", &if is_date { date() } else { "1".to_owned() }),
            false => UpstreamReply::ok("x"),
        });
        let gateway = Gateway::in_front_of(&upstream).await;
        let began = Instant::now();
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{is_date}");
        assert!(began.elapsed() >= Duration::from_millis(least), "{is_date}: after {:?}", began.elapsed());
        assert_eq!(upstream.count(), 2);
    }
}

/// R4: with a Retry-After over five seconds, or over the rest of the total timeout, the answer is forwarded at once
#[tokio::test]
async fn a_long_retry_after_is_forwarded() {
    for (asked, total) in [("6", "30"), ("3", "2")] {
        let upstream = Upstream::start(move |_| UpstreamReply::status(AGAIN).header("retry-after", asked));
        let gateway =
            Gateway::builder().bucket("b", &upstream).set("server.request_timeout", total).start().await;
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.header("retry-after")), (AGAIN, Some(asked)));
        assert_eq!(upstream.count(), 1, "{asked} of {total}");
    }
}

/// R3: a conditional write has one attempt, with any of the headers, also in the query of a presigned URL; without the
/// header it has three
#[tokio::test]
async fn a_conditional_write_has_one_attempt() {
    let write = async |method: &str, target: &str, headers: &[(&str, &str)]| {
        let upstream = Upstream::start(|_| UpstreamReply::status(AGAIN));
        let gateway = Gateway::in_front_of(&upstream).await;
        let body: Option<&[u8]> = (method != "GET").then_some(b"x");
        let answer = request(gateway.address(), method, target, headers, body).await;
        assert_eq!(answer.complete_status(), AGAIN, "{target} {headers:?}");
        upstream.count()
    };
    const CONDITIONS: &str = "cf-copy-destination-if-match cf-copy-destination-if-modified-since \
        cf-copy-destination-if-none-match cf-copy-destination-if-unmodified-since if-match \
        if-none-match if-unmodified-since x-amz-copy-source-if-match \
        x-amz-copy-source-if-modified-since x-amz-copy-source-if-none-match \
        x-amz-copy-source-if-unmodified-since x-amz-if-match-initiated-time \
        x-amz-if-match-last-modified-time x-amz-if-match-size x-amz-mfa x-amz-rename-source \
        x-amz-rename-source-if-match x-amz-rename-source-if-modified-since \
        x-amz-rename-source-if-none-match x-amz-rename-source-if-unmodified-since \
        x-amz-write-offset-bytes x-goog-copy-source-if-generation-match x-goog-copy-source-if-match \
        x-goog-copy-source-if-metageneration-match x-goog-copy-source-if-none-match \
        x-goog-if-generation-match x-goog-if-metageneration-match";
    for name in CONDITIONS.split(' ') {
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

/// R1, B3: the store's error codes decide: SlowDown is retried and is no failure, RequestTimeout (400) is transient,
/// any other 400 is not
#[tokio::test]
async fn s3_error_codes_are_classified() {
    for (status, code, attempts) in
        [(503, "SlowDown", 3), (400, "RequestTimeout", 3), (400, "InvalidRequest", 1)]
    {
        let upstream = Upstream::start(move |_| UpstreamReply::s3_error(status, code));
        let gateway = Gateway::in_front_of(&upstream).await;
        let answer = gateway.get("/b/k").await;
        assert_eq!(answer.complete_status(), status);
        assert!(
            answer.text().contains(&format!("<Code>{code}</Code>")),
            "the document is forwarded: {}",
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

/// R6, R7: a client's own retry is not retried, for each way to mark one, and this is counted
#[tokio::test]
async fn a_clients_retry_is_not_retried() {
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
        assert_eq!(send_request(&gateway, "GET", &[(name, sent)], None).await.status, AGAIN);
        assert_eq!(upstream.count(), attempts, "{name}: {sent}");
        let left = gateway.metric("retry_left_to_client_total{bucket=\"b\"}").await;
        assert_eq!(left, if attempts == 1 { 1.0 } else { 0.0 }, "{name}: {sent}");
    }
}

/// R2: the number of attempts is configurable, and one disables retries
#[tokio::test]
async fn the_number_of_attempts_is_configurable() {
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

/// R1, B2: the attempts stop when the circuit opens
#[tokio::test]
async fn an_opening_circuit_ends_the_attempts() {
    // Time for the breaker to count one attempt before the next.
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

/// R3, P5: a retry goes to another endpoint if there is one
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
