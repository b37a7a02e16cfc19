//! Series at 0 from the start, and only those that can count.

use std::collections::BTreeSet;

use super::{names, series};
use crate::support::{Gateway, Upstream, UpstreamReply, request};

/// The values of the label `reason` of `errors_total` for a bucket.
fn reasons(scrape: &str, bucket: &str) -> BTreeSet<String> {
    let prefix = format!("tidegate_errors_total{{bucket=\"{bucket}\",reason=\"");
    let found = series(scrape);
    let reason = |name: &String| Some(name.strip_prefix(&prefix)?.split('"').next()?.to_owned());
    found.keys().filter_map(reason).collect()
}

fn assert_reasons(found: &BTreeSet<String>, possible: &[&str], impossible: &[&str]) {
    let missing: Vec<_> = possible.iter().filter(|reason| !found.contains(**reason)).collect();
    let stray: Vec<_> = impossible.iter().filter(|reason| found.contains(**reason)).collect();
    assert!(missing.is_empty() && stray.is_empty(), "missing {missing:?}, stray {stray:?}");
}

/// O3: before the first request every error, class and result has a series at 0
#[tokio::test]
async fn counters_are_zero_before_the_first_request() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.hedging.enabled", "true")
        .set("rate_limit.global.requests_per_second", "100")
        .start()
        .await;
    let scrape = gateway.metrics().await;
    let all = series(&scrape);
    for name in [
        "requests_total{bucket=\"b\",class=\"5xx\"}",
        "errors_total{bucket=\"b\",reason=\"timeout_first_byte\"}",
        "errors_total{bucket=\"b\",reason=\"rate_limit_global\"}",
        "errors_total{bucket=\"b\",reason=\"queue_full\"}",
        "unrouted_total{reason=\"no_such_bucket\"}",
        "unrouted_total{reason=\"malformed\"}",
        "s3_retry_attempts_total{bucket=\"b\"}",
        "retry_budget_exhausted_total{bucket=\"b\"}",
        "hedges_suppressed_total{bucket=\"b\",cause=\"budget\"}",
        "request_queue_rejections_total{bucket=\"b\",reason=\"timeout\"}",
        "client_connections_total{protocol=\"http1\",tls=\"none\"}",
    ] {
        assert_eq!(all.get(&format!("tidegate_{name}")), Some(&0.0), "{name} in:\n{scrape}");
    }
}

/// O3: a bucket has no series for a reason that its kind, its clients or its keys exclude
#[tokio::test]
async fn a_bucket_has_the_reasons_that_it_can_give() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("open", &upstream)
        .http_bucket("api", &upstream)
        .bucket("signed", &upstream)
        .set("buckets.signed.auth", "sigv4")
        .set("buckets.signed.rate_limit.requests_per_second", "5")
        .bucket("closed", &upstream)
        .set("buckets.closed.auth", "")
        .start()
        .await;
    let scrape = gateway.metrics().await;
    let of_s3 = ["upstream_region", "md5_mismatch", "form_malformed", "copy_source", "late_error"];
    let of_signatures = ["signature_mismatch", "unknown_key", "presigned_expired", "not_signed"];
    let of_upstreams =
        ["upstream_connect", "timeout_first_byte", "queue_full", "breaker_open", "short_answer"];
    let of_all = ["client_gone", "exhausted", "panic", "uri_too_long"];
    let elsewhere =
        ["rate_limit_global", "token_expired", "api_key_unknown", "upstream_tls", "client_concurrency"];

    let open = reasons(&scrape, "open");
    assert_reasons(
        &open,
        &[of_s3.as_slice(), &of_upstreams, &of_all, &["anonymous_denied"]].concat(),
        &elsewhere,
    );
    assert_reasons(&open, &[], &[of_signatures.as_slice(), &["rate_limit_bucket", "bucket_closed"]].concat());
    let api = reasons(&scrape, "api");
    assert_reasons(&api, &[of_upstreams.as_slice(), &of_all, &["method"]].concat(), &of_s3);
    assert_reasons(&api, &[], &[of_signatures.as_slice(), &elsewhere].concat());
    let signed = reasons(&scrape, "signed");
    assert_reasons(
        &signed,
        &[of_s3.as_slice(), &of_signatures, &["rate_limit_bucket"]].concat(),
        &["anonymous_denied"],
    );
    let closed = reasons(&scrape, "closed");
    assert_reasons(&closed, &[of_all.as_slice(), &["bucket_closed"]].concat(), &of_upstreams);
    assert_reasons(&closed, &[], &of_s3);
}

/// O3: a bucket without retries, hedges, named credentials and shadow limits has none of their counters
#[tokio::test]
async fn features_that_are_off_have_no_counters() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.concurrency.max_queued", "0")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let scrape = gateway.metrics().await;
    let found: BTreeSet<_> = names(&scrape).into_iter().collect();
    for name in [
        "s3_retry_attempts_total",
        "s3_retry_success_total",
        "s3_retry_exhausted_total",
        "retry_budget_exhausted_total",
        "retry_left_to_client_total",
        "hedges_sent_total",
        "hedges_suppressed_total",
        "hedge_first_byte_p95_seconds",
        "upstream_credential_setbacks_total",
        "rate_limit_shadowed_total",
        "bucket_concurrency_limit_reductions_total",
    ] {
        assert!(!found.contains(&format!("tidegate_{name}")), "{name} in:\n{scrape}");
    }
    let all = series(&scrape);
    let rejected =
        |reason: &str| format!("tidegate_request_queue_rejections_total{{bucket=\"b\",reason=\"{reason}\"}}");
    assert_eq!(all.get(&rejected("full")), Some(&0.0));
    for reason in ["timeout", "too_long", "displaced", "overload", "no_credential"] {
        assert_eq!(all.get(&rejected(reason)), None, "{reason}");
    }
}

/// O3: errors add no series, whatever clients send
#[tokio::test]
async fn errors_add_no_series() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let before = names(&gateway.metrics().await).len();
    for (target, reason) in [
        ("/nowhere/k".to_owned(), "no_such_bucket"),
        (format!("/b/{}", "k".repeat(8200)), "uri_too_long"),
        ("/b/k?uploads&acl".to_owned(), "conflicting_parameters"),
        ("/b/..%2f..%2fetc".to_owned(), "path"),
    ] {
        assert_eq!(gateway.get(&target).await.reason(), reason, "{target}");
    }
    let counted = "errors_total{bucket=\"b\",reason=\"uri_too_long\"}";
    crate::support::wait_for("the errors are counted", || async {
        let unrouted = gateway.metric("unrouted_total{reason=\"path\"}").await;
        (gateway.metric(counted).await == 1.0 && unrouted == 1.0).then_some(())
    })
    .await;
    assert_eq!(names(&gateway.metrics().await).len(), before);
}

/// O3: an error document with status 200 is S3's, so the answer of an API that resembles one is a success
#[tokio::test]
async fn an_api_has_no_late_errors() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("<Error><Code>InternalError</Code></Error>"));
    let gateway = Gateway::builder().bucket("b", &upstream).http_bucket("api", &upstream).start().await;
    for (bucket, reason) in [("b", "late_error".into()), ("api", serde_json::Value::Null)] {
        let headers = [("x-request-id", bucket), ("x-amz-copy-source", "b/source")];
        let answer = request(gateway.address(), "PUT", &format!("/{bucket}/k"), &headers, Some(b"")).await;
        assert_eq!(answer.complete_status(), 200);
        assert_eq!(gateway.wait_for_access_line(bucket).await["reason"], reason);
    }
    assert_eq!((gateway.errors("b").await, gateway.errors("api").await), (1.0, 0.0));
}
