//! Rate limits of the built gateway.

mod cost;
mod exact;
mod shadow;

use std::time::Instant;

use futures_util::future::join_all;

use crate::support::client::message;
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, get};

fn statuses(answers: &[Response], status: u16) -> usize {
    answers.iter().filter(|answer| answer.complete_status() == status).count()
}

async fn burst(gateway: &Gateway, path: &str, requests: usize) -> Vec<Response> {
    join_all((0..requests).map(|_| gateway.get(path))).await
}

/// A rate so low that no token is refilled during a test.
const SLOW: &str = "0.001";

fn assert_refused(answer: &Response, reason: &str, scope: &str, burst: u32) {
    assert_eq!((answer.status, answer.reason()), (429, reason), "{}", answer.text());
    assert!(answer.text().contains("<Code>SlowDown</Code>"), "{}", answer.text());
    let wait = answer.retry_after().expect("retry-after");
    assert!((990..=1060).contains(&wait), "at 0.001 a second the next token is 1000 s away, not {wait}");
    let policy = answer.header("ratelimit-policy").expect("ratelimit-policy");
    assert!(policy.starts_with(&format!("\"{scope}\";q={burst};w=")), "{policy}");
    let state = answer.header("ratelimit").expect("ratelimit");
    let after = state.strip_prefix(&format!("\"{scope}\";r=0;t=")).map(|after| after.parse::<u64>().unwrap());
    assert!(after.is_some_and(|after| after <= wait && after >= 990), "{state}, and retry-after: {wait}");
}

/// L1: each of the three limits admits its burst and then answers 429 with Retry-After and the RateLimit headers
#[tokio::test]
async fn each_limit_answers_429_with_retry_after() {
    for (key, reason, scope) in [
        ("rate_limit.global", "rate_limit_global", "global"),
        ("rate_limit.per_ip", "rate_limit_ip", "ip"),
        ("buckets.b.rate_limit", "rate_limit_bucket", "bucket"),
    ] {
        let upstream = Upstream::ok("x");
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set(&format!("{key}.requests_per_second"), SLOW)
            .set(&format!("{key}.burst"), "3")
            .start()
            .await;
        for _ in 0..3 {
            assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{key}");
        }
        assert_refused(&gateway.get("/b/k").await, reason, scope, 3);
        assert_eq!(upstream.count(), 3, "{key}: the refused request was forwarded");
        assert_eq!(gateway.metric("rate_limit_exceeded_total{bucket=\"b\"}").await, 1.0);
        let exceeded = gateway.metric(&format!("errors_total{{bucket=\"b\",reason=\"{reason}\"}}")).await;
        assert_eq!(exceeded, 1.0);
    }
}

/// L1, L4: a request refused by one limit spends no token of another, and buckets have separate budgets
#[tokio::test]
async fn a_refusal_by_one_limit_spends_nothing_of_another() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("small", &upstream)
        .bucket("large", &upstream)
        .set("buckets.small.rate_limit.requests_per_second", SLOW)
        .set("buckets.small.rate_limit.burst", "1")
        .set("rate_limit.global.requests_per_second", SLOW)
        .set("rate_limit.global.burst", "4")
        .start()
        .await;
    assert_eq!(gateway.get("/small/k").await.complete_status(), 200);
    for _ in 0..10 {
        assert_eq!(gateway.get("/small/k").await.reason(), "rate_limit_bucket");
    }
    for _ in 0..3 {
        assert_eq!(
            gateway.get("/large/k").await.complete_status(),
            200,
            "refusals spend no token of the global limit"
        );
    }
    assert_eq!(gateway.get("/large/k").await.reason(), "rate_limit_global");
}

/// L2: exact under concurrency and over all workers: a burst of n admits exactly n of many concurrent requests
#[tokio::test]
async fn concurrent_requests_get_exactly_the_burst() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.rate_limit.requests_per_second", SLOW)
        .set("buckets.b.rate_limit.burst", "17")
        .start()
        .await;
    let answers = burst(&gateway, "/b/k", 60).await;
    assert_eq!((statuses(&answers, 200), statuses(&answers, 429)), (17, 43));
    assert_eq!(upstream.count(), 17);
}

/// L2: over any window the admitted requests stay within rate · window + burst, and the rate is reached
#[tokio::test]
async fn the_rate_is_reached_and_never_exceeded() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.per_ip.requests_per_second", "40")
        .set("rate_limit.per_ip.burst", "5")
        .start()
        .await;
    let began = Instant::now();
    let mut admitted = 0;
    while began.elapsed().as_secs_f64() < 1.0 {
        admitted += statuses(&burst(&gateway, "/b/k", 8).await, 200);
    }
    let most = began.elapsed().as_secs_f64() * 40.0 + 5.0;
    assert!(
        f64::from(u32::try_from(admitted).unwrap()) <= most,
        "{admitted} admitted, at most {most} allowed"
    );
    assert!(admitted > 5, "only {admitted} admitted: tokens are not refilled");
}

/// L2: a burst large enough for leases to workers is not exceeded, and at least half of it is admitted
#[tokio::test]
async fn a_large_burst_is_not_exceeded() {
    const BURST: usize = 4000;
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.per_ip.requests_per_second", SLOW)
        .set("rate_limit.per_ip.burst", &BURST.to_string())
        .start()
        .await;
    let client = async || {
        let mut client = Client::connect(gateway.address()).await;
        let mut admitted = 0;
        for _ in 0..BURST / 8 + 100 {
            client.send(message("GET", "/b/k", &[], None)).await;
            admitted += usize::from(client.response("GET").await.complete_status() == 200);
        }
        admitted
    };
    let admitted: usize = join_all((0..8).map(|_| client())).await.into_iter().sum();
    assert_eq!(upstream.count(), admitted);
    assert!(admitted <= BURST, "{admitted} admitted");
    // Leased tokens that a worker does not use are lost, but below half of the burst none are leased.
    assert!(admitted >= BURST / 2, "only {admitted} admitted");
}

/// L1, L4: without a limit nothing is limited, and the limiter is not called
#[tokio::test]
async fn limits_are_off_by_default() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let before = gateway.actor("limiter").await["handled"].as_u64().unwrap();
    assert_eq!(statuses(&burst(&gateway, "/b/k", 50).await, 200), 50);
    let after = gateway.actor("limiter").await["handled"].as_u64().unwrap();
    assert!(after - before <= 2, "only the status page calls it: {}", after - before);
}

/// L4: a client's first and second request pass under every limit, for any client and bucket
#[tokio::test]
async fn the_first_and_second_request_pass() {
    let upstream = Upstream::ok("x");
    let mut builder = Gateway::builder().bucket("a", &upstream).bucket("b", &upstream);
    for (limit, burst) in [
        ("rate_limit.global", "4"),
        ("rate_limit.per_ip", "4"),
        ("buckets.a.rate_limit", "2"),
        ("buckets.b.rate_limit", "2"),
    ] {
        builder =
            builder.set(&format!("{limit}.requests_per_second"), SLOW).set(&format!("{limit}.burst"), burst);
    }
    let gateway = builder.start().await;
    for path in ["/a/k", "/b/k", "/a/k", "/b/k"] {
        assert_eq!(
            gateway.get(path).await.complete_status(),
            200,
            "{path}: counted twice, or for another bucket"
        );
    }
    assert_eq!(gateway.get("/a/k").await.complete_status(), 429);
}

/// L1: with RateLimit headers on every answer, each shows the rest of the limit that ends first
#[tokio::test]
async fn every_answer_may_have_ratelimit_headers() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").header("ratelimit", "\"store\";r=5"));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.headers", "always")
        .set("rate_limit.global.requests_per_second", "0.01")
        .set("rate_limit.global.burst", "100000")
        .set("buckets.b.rate_limit.requests_per_second", "0.01")
        .set("buckets.b.rate_limit.burst", "3")
        .start()
        .await;
    for left in [2, 1, 0] {
        let answer = gateway.get("/b/k").await;
        assert_eq!(
            (answer.complete_status(), answer.header("ratelimit-policy")),
            (200, Some("\"bucket\";q=3;w=300"))
        );
        let [store, own] = answer.headers_named("ratelimit")[..] else { panic!("{answer:?}") };
        assert_eq!(store, "\"store\";r=5", "the store's header is forwarded");
        let after =
            own.strip_prefix(&format!("\"bucket\";r={left};t=")).map(|after| after.parse::<u64>().unwrap());
        assert!(after.is_some_and(|after| (60..=100).contains(&after)), "{own}");
    }
    let refused = gateway.get("/b/k").await;
    assert_eq!(
        (refused.complete_status(), refused.headers_named("ratelimit").len()),
        (429, 1),
        "{refused:?}"
    );
}

/// L3: a client cannot choose its budget by a header
#[tokio::test]
async fn a_forwarded_header_changes_nothing() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.per_ip.requests_per_second", SLOW)
        .set("rate_limit.per_ip.burst", "1")
        .start()
        .await;
    assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200);
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip"] {
        let headers = [(header, "203.0.113.9")];
        let answer = crate::support::request(gateway.address(), "GET", "/b/k", &headers, None).await;
        assert_eq!(answer.reason(), "rate_limit_ip", "{header}");
    }
}
