//! A store with a skewed clock: the gateway handles the refusals itself; they count against no client, circuit or
//! credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::status::{has_begun, has_ended};
use crate::support::gateway::Builder;
use crate::support::{
    Gateway, SeenRequest, Upstream, UpstreamReply, head, put, random_bytes, request, wait_for,
};

const HOUR: i64 = 3600;
/// More failures than open a circuit by default.
const TIMES: usize = 6;
const REFUSALS: &str = "upstream_clock_refusals_total{bucket=\"b\"}";

fn seconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn now() -> i64 {
    seconds(SystemTime::now())
}

fn http_date(seconds: i64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap()))
}

/// The signing time of a request.
fn signed_at(seen: &SeenRequest) -> i64 {
    let text = seen.header("x-amz-date").unwrap();
    let [year, month, day] = [&text[..4], &text[4..6], &text[6..8]];
    let [hour, minute, second] = [&text[9..11], &text[11..13], &text[13..15]];
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    OffsetDateTime::parse(&text, &Rfc3339).unwrap().unix_timestamp()
}

fn refusal(date: Option<&str>) -> UpstreamReply {
    let refusal = UpstreamReply::s3_error(403, "RequestTimeTooSkewed");
    match date {
        Some(date) => refusal.header("date", date),
        None => refusal,
    }
}

/// Answers as a store with a clock `skew` seconds ahead and a tolerance of 15 minutes.
fn at(ahead: i64, seen: &SeenRequest) -> UpstreamReply {
    let time = now() + ahead;
    let is_refused = (signed_at(seen) - time).abs() > 900;
    match is_refused {
        true => refusal(Some(&http_date(time))),
        false => UpstreamReply::ok("x").header("date", &http_date(time)),
    }
}

/// A store with a clock that the test moves.
fn store(ahead: i64) -> (Upstream, Arc<AtomicI64>) {
    let clock = Arc::new(AtomicI64::new(ahead));
    let of_store = Arc::clone(&clock);
    (Upstream::start(move |seen| at(of_store.load(Ordering::SeqCst), seen)), clock)
}

/// A signed bucket `b`.
fn gateway_before(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
}

/// The degradation cause in the status, if it is set.
async fn cause(gateway: &Gateway) -> Option<Value> {
    let status = gateway.status().await;
    let causes = status["causes"].as_array().unwrap();
    causes.iter().find(|cause| cause["code"] == "upstream_clock_skew").cloned()
}

/// No failure was counted against the store.
async fn nothing_counts(gateway: &Gateway) {
    gateway.wait_until_idle().await;
    let bucket = gateway.status().await["buckets"]["b"].clone();
    for class in ["read", "write"] {
        let circuit = &bucket["breaker"][class];
        assert_eq!(
            (&circuit["opened_total"], &circuit["consecutive_failures"]),
            (&0.into(), &0.into()),
            "{circuit}"
        );
    }
    assert_eq!(bucket["pool"]["endpoints"][0]["state"], "in_rotation");
}

const CLOCK_LINE: &str = "the store refuses the time of the gateway's signatures";

fn lines(gateway: &Gateway) -> usize {
    gateway.log_lines().iter().filter(|line| line["msg"] == CLOCK_LINE).count()
}

/// A2, X10: the request is signed once more with the store's time, which is used for later requests; operators see it,
/// clients do not
#[tokio::test]
async fn requests_are_signed_with_the_stores_time() {
    for ahead in [HOUR, -HOUR, 23 * HOUR] {
        let (upstream, _) = store(ahead);
        let gateway = gateway_before(&upstream).start().await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        assert_eq!(upstream.count(), 2);
        assert!((signed_at(&upstream.last()) - now() - ahead).abs() < 60);
        for _ in 0..3 {
            assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
            assert_eq!(
                put(gateway.address(), "/b/k", random_bytes(200_000)).await.complete_status(),
                200,
                "a body that is sent once"
            );
        }
        assert_eq!(upstream.count(), 8, "the offset is measured");
        let cause = cause(&gateway).await.unwrap();
        let direction = if ahead < 0 { "behind" } else { "ahead of" };
        let detail = cause["message"].as_str().unwrap();
        assert!(detail.contains(direction) && detail.contains("correct the clock"), "{detail}");
        assert_eq!(cause["scope"]["bucket"], "b");
        assert!(
            cause["effect"]["text"].as_str().unwrap().starts_with("none") && cause["since_ms"].is_u64(),
            "{cause}"
        );
        assert_eq!(gateway.metric(REFUSALS).await, 1.0);
        let line = gateway.wait_for_log_line(CLOCK_LINE, |_| true).await;
        assert_eq!((&line["bucket"], lines(&gateway)), (&"b".into(), 1));
        nothing_counts(&gateway).await;
    }
}

/// A2: the refusal is recognised by its code, also if a proxy or the store sends it with another media type than XML
#[tokio::test]
async fn a_refusal_with_another_media_type_is_recognised() {
    for media_type in ["text/html", "application/json", ""] {
        let upstream = Upstream::start(move |seen| match (signed_at(seen) - now() - HOUR).abs() > 900 {
            false => UpstreamReply::ok("x"),
            true => {
                let document = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
                let reply = UpstreamReply::new(403, document).header("date", &http_date(now() + HOUR));
                if media_type.is_empty() { reply } else { reply.header("content-type", media_type) }
            }
        });
        let gateway = gateway_before(&upstream).start().await;
        assert_eq!((gateway.get("/b/k").await.complete_status(), upstream.count()), (200, 2), "{media_type}");
        nothing_counts(&gateway).await;
    }
}

/// A2: the server time in the store's document has priority over the `date` header, which a proxy may have written
#[tokio::test]
async fn the_documents_time_has_priority_over_the_date_header() {
    let upstream = Upstream::start(|seen| match (signed_at(seen) - now() - HOUR).abs() > 900 {
        false => UpstreamReply::ok("x"),
        true => {
            let time = OffsetDateTime::from_unix_timestamp(now() + HOUR).unwrap();
            let time = time.format(&Rfc3339).unwrap();
            let text =
                format!("<Error><Code>RequestTimeTooSkewed</Code><ServerTime>{time}</ServerTime></Error>");
            let reply = UpstreamReply::new(403, text).header("content-type", "application/xml");
            reply.header("date", &http_date(now()))
        }
    });
    let gateway = gateway_before(&upstream).start().await;
    assert_eq!((gateway.get("/b/k").await.complete_status(), upstream.count()), (200, 2));
}

/// A2: the answer to a HEAD has no code, so its `date` decides; a 403 without a time difference is forwarded
#[tokio::test]
async fn a_head_corrects_the_clock_too() {
    let (upstream, _) = store(HOUR);
    let gateway = gateway_before(&upstream).start().await;
    for requests in [2, 3] {
        assert_eq!(head(gateway.address(), "/b/k").await.complete_status(), 200);
        assert_eq!(upstream.count(), requests);
    }
    let denying = Upstream::start(|_| UpstreamReply::status(403).header("date", &http_date(now() + HOUR)));
    let gateway = gateway_before(&denying).start().await;
    assert_eq!(head(gateway.address(), "/b/k").await.complete_status(), 403);
    assert_eq!((denying.count(), cause(&gateway).await), (2, None));
}

/// A2, X8, X10: the offset is dropped once the clocks agree, whether the store refuses the old offset or only sends its
/// date
#[tokio::test]
async fn the_offset_is_dropped_when_the_clocks_agree() {
    let (upstream, clock) = store(HOUR);
    let gateway = gateway_before(&upstream).start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let skew = has_begun(&gateway, "upstream_clock_skew", "b").await;
    assert_eq!(skew["scope"]["name"], upstream.address().to_string(), "{skew}");
    clock.store(0, Ordering::SeqCst);
    assert_eq!(
        (gateway.get("/b/k").await.complete_status(), upstream.count()),
        (200, 4),
        "the old offset is refused"
    );
    assert_eq!(cause(&gateway).await, None);
    assert_eq!(has_ended(&gateway, "upstream_clock_skew", "b").await["refused"], 0);
    assert_eq!((gateway.get("/b/k").await.complete_status(), upstream.count()), (200, 5));
    gateway.wait_for_log_line("requests are signed with the gateway's own time again", |_| true).await;

    let lenient = Upstream::start(|seen| match seen.number {
        1 => refusal(Some(&http_date(now() + HOUR))),
        2 => UpstreamReply::ok("x").header("date", &http_date(now() + HOUR)),
        _ => UpstreamReply::ok("x").header("date", &http_date(now())),
    });
    let gateway = gateway_before(&lenient).start().await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!((lenient.count(), cause(&gateway).await), (4, None));
    assert!((signed_at(&lenient.last()) - now()).abs() < 60);
}

/// A2, R3: a streamed body cannot be sent again: 503 with the reason, and the client's next try is signed with the
/// store's time. A refused POST had no effect, so it is sent again
#[tokio::test]
async fn a_streamed_body_is_not_sent_again() {
    let (upstream, _) = store(HOUR);
    let gateway = gateway_before(&upstream).start().await;
    let body = random_bytes(200_000);
    let refused = put(gateway.address(), "/b/k", &body).await;
    assert_eq!((refused.complete_status(), refused.reason()), (503, "upstream_clock_skew"));
    assert!(refused.retry_after().is_some() && !refused.text().contains("3600"), "{}", refused.text());
    let line = gateway.wait_for_log_line("request", |line| line["reason"] == "upstream_clock_skew").await;
    assert!(line["detail"].as_str().unwrap().contains("ahead of the gateway's"), "{line}");
    assert_eq!((put(gateway.address(), "/b/k", &body).await.complete_status(), upstream.count()), (200, 2));
    assert_eq!(upstream.last().body, body);

    let (upstream, _) = store(HOUR);
    let gateway = gateway_before(&upstream).start().await;
    let answer = request(gateway.address(), "POST", "/b/k?uploads", &[], Some(b"")).await;
    assert_eq!((answer.complete_status(), upstream.count()), (200, 2));
}

/// A2, R3: a conditional write that was refused for its time had no effect, so it is signed once more
#[tokio::test]
async fn a_conditional_write_is_signed_once_more() {
    let (upstream, _) = store(HOUR);
    let gateway = gateway_before(&upstream).start().await;
    let answer = request(gateway.address(), "PUT", "/b/k", &[("if-none-match", "*")], Some(b"x")).await;
    assert_eq!((answer.complete_status(), upstream.count()), (200, 2));
}

/// A2, B3, C3, R5: a store that refuses every time gets one extra attempt at first, then none; no circuit or credential
/// is affected
#[tokio::test]
async fn a_store_that_always_refuses_causes_503() {
    let upstream = Upstream::start(|_| refusal(Some(&http_date(now() + HOUR))));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.credentials.one.access_key_id", "A")
        .set("buckets.b.s3.credentials.one.secret_access_key", "s")
        .set("buckets.b.s3.credentials.two.access_key_id", "B")
        .set("buckets.b.s3.credentials.two.secret_access_key", "t")
        .start()
        .await;
    for number in 1..=TIMES {
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.reason()), (503, "upstream_clock_skew"));
        assert_eq!(upstream.count(), number + 1, "one extra attempt in all");
    }
    nothing_counts(&gateway).await;
    let credentials = gateway.status().await["buckets"]["b"]["pool"]["credentials"].clone();
    for credential in credentials.as_array().unwrap() {
        assert_eq!(
            (&credential["state"], &credential["refused"]),
            (&"in_use".into(), &0.into()),
            "{credential}"
        );
    }
    let cause = cause(&gateway).await.unwrap();
    assert!(cause["message"].as_str().unwrap().contains("refuses its own date"), "{cause}");
    assert!(cause["effect"]["text"].as_str().unwrap().contains("503"), "{cause}");
    assert_eq!(gateway.metric(REFUSALS).await, (TIMES + 1) as f64);
    gateway.wait_for_log_line(CLOCK_LINE, |_| true).await;
    assert_eq!(lines(&gateway), 1);
}

/// A2, P5: with one of two endpoints beyond the correctable skew, the other one serves
#[tokio::test]
async fn another_endpoint_serves_while_one_clock_is_absurd() {
    let (absurd, sound) = (Upstream::start(|_| refusal(Some(&http_date(0)))), Upstream::ok("x"));
    let gateway = Gateway::builder()
        .bucket_at("b", &[absurd.address(), sound.address()])
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
        .start()
        .await;
    wait_for("the endpoint with the absurd clock was called", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (absurd.count() >= 2).then_some(())
    })
    .await;
    nothing_counts(&gateway).await;
}

/// A2, X9: invalid or absurd dates are not used for signing: 503 at once
#[tokio::test]
async fn an_absurd_date_is_not_used() {
    let dates = [
        None,
        Some("yesterday".to_owned()),
        Some(http_date(now() + 25 * HOUR)),
        Some(http_date(0)),
        Some("Fri, 31 Dec 9999 23:59:59 GMT".to_owned()),
    ];
    for date in dates {
        let of_store = date.clone();
        let upstream = Upstream::start(move |_| refusal(of_store.as_deref()));
        let gateway = gateway_before(&upstream).start().await;
        let answer = gateway.get("/b/k").await;
        assert_eq!(
            (answer.complete_status(), answer.reason(), upstream.count()),
            (503, "upstream_clock_skew", 1),
            "{date:?}"
        );
        assert!(cause(&gateway).await.is_some(), "{date:?}");
    }
}

/// A2: a date over plain HTTP from a remote host is not used, because a machine in between could shift the gateway's
/// clock
#[tokio::test]
async fn a_date_over_plain_http_is_not_used() {
    let (upstream, clock) = store(HOUR);
    // A name that resolves to the loopback interface without being a loopback name.
    let url = format!("http://127.1:{}", upstream.address().port());
    let gateway = gateway_before(&upstream).set("buckets.b.s3.endpoints", &url).start().await;
    for _ in 0..TIMES {
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.reason()), (503, "upstream_clock_skew"));
    }
    assert_eq!((upstream.count(), head(gateway.address(), "/b/k").await.complete_status()), (TIMES, 403));
    let detail = cause(&gateway).await.unwrap()["message"].to_string();
    assert!(detail.contains("has no TLS") && detail.contains("https://"), "{detail}");
    nothing_counts(&gateway).await;
    clock.store(0, Ordering::SeqCst);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(cause(&gateway).await, None, "the cause ends with the first signature that is accepted");
}

/// A2: without a signature of the gateway there is nothing to correct; the answer is forwarded
#[tokio::test]
async fn without_a_gateway_signature_the_answer_is_forwarded() {
    let upstream = Upstream::start(|_| refusal(Some(&http_date(now() + HOUR))));
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason(), upstream.count()), (403, "", 1));
    assert_eq!(cause(&gateway).await, None);
}

/// A2, P5: the gateway's own health checks are signed with the store's time and correct the offset
#[tokio::test]
async fn health_checks_follow_the_stores_clock() {
    let (upstream, clock) = store(HOUR);
    let builder = gateway_before(&upstream)
        .set("buckets.b.s3.health_check.path", "/b/health")
        .set("buckets.b.s3.health_check.interval_seconds", "0.1")
        .set("buckets.b.s3.health_check.unhealthy_threshold", "1");
    let gateway = builder.start().await;
    wait_for("five checks", || async { (upstream.count() >= 5).then_some(()) }).await;
    assert_eq!(gateway.metric(REFUSALS).await, 1.0);
    nothing_counts(&gateway).await;
    let failed =
        |gateway: &Gateway| gateway.log_lines().into_iter().any(|line| line["msg"] == "health check failed");
    assert!(!failed(&gateway), "{:?}", gateway.log_lines());
    clock.store(30 * HOUR, Ordering::SeqCst);
    let line = gateway.wait_for_log_line("health check failed", |_| true).await;
    assert!(line["error"].as_str().unwrap().contains("the time of the gateway's signature"), "{line}");
}
