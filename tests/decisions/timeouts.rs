//! The figures of timeouts: the time of the phase, and the limit that ended it.

use super::assert_recorded;
use crate::support::unreachable::UnresponsiveAddress;
use crate::support::{Gateway, Upstream, UpstreamReply, request};

/// Method, target, headers, and the reason, limit in milliseconds and key of the record.
type TimedOut<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u32, Option<&'a str>);

/// O4, T2: the record of a timeout has the time that was measured, and names the limit that applied to this operation
#[tokio::test]
async fn a_timeout_names_the_limit_that_applied() {
    let (upstream, silent) = (Upstream::start(|_| UpstreamReply::hang()), UnresponsiveAddress::new());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("quick", &upstream)
        .bucket_at("silent", &[silent.address])
        .set("server.request_timeout", "0.8")
        .set("buckets.b.s3.timeout", "0.3")
        .set("buckets.b.s3.long_operation_timeout", "0.6")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .set("buckets.quick.s3.timeout", "0.9")
        .set("buckets.quick.s3.long_operation_timeout", "1")
        .set("buckets.quick.s3.retry.max_attempts", "1")
        .set("buckets.quick.s3.circuit_breaker.mode", "off")
        .set("buckets.silent.s3.connect_timeout", "0.25")
        .set("buckets.silent.s3.retry.max_attempts", "1")
        .start()
        .await;
    let copy = [("x-amz-copy-source", "/b/j")];
    let of_quick = [("x-amz-copy-source", "/quick/j")];
    let deadline = [("x-request-timeout", "0.2")];
    let cases: [TimedOut<'_>; 6] = [
        ("GET", "/b/k", &[], "timeout_first_byte", 300, Some("buckets.b.s3.timeout")),
        ("PUT", "/b/k", &copy, "timeout_long_operation", 600, Some("buckets.b.s3.long_operation_timeout")),
        ("GET", "/quick/k", &[], "timeout_total", 800, Some("server.request_timeout")),
        (
            "PUT",
            "/quick/k",
            &of_quick,
            "timeout_long_operation",
            1000,
            Some("buckets.quick.s3.long_operation_timeout"),
        ),
        ("GET", "/b/k", &deadline, "timeout_deadline", 200, Some("x-request-timeout")),
        ("GET", "/silent/k", &[], "timeout_connect", 250, Some("buckets.silent.s3.connect_timeout")),
    ];
    for (method, target, headers, reason, limit, key) in cases {
        let answer = request(gateway.address(), method, target, headers, None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (504, reason), "{method} {target}");
        let record = assert_recorded(&gateway, &answer).await;
        assert_eq!((&record["threshold"], &record["unit"]), (&limit.into(), &"ms".into()), "{record}");
        assert!(record["measured"].as_f64().unwrap() >= f64::from(limit), "{record}");
        assert_eq!(record["config"]["key"].as_str(), key, "{record}");
    }
}
