//! Units and words of configuration values, and hints for misspelt names (G1).

use super::{bucket, check, refused};
use crate::support::gateway::ExitReport;
use crate::support::{Gateway, Upstream};

/// G1: durations, sizes and switches accept the units and words of other programs
#[test]
fn common_units_and_words_are_accepted() {
    for (key, value) in [
        ("server.request_timeout", "45s"),
        ("server.keep_alive", "1m30s"),
        ("server.write_stall_timeout", "1h"),
        ("monitor.interval_ms", "500ms"),
        ("buckets.b.s3.circuit_breaker.slow_call_duration_ms", "2s"),
        ("server.limits.max_request_size", "512Mi"),
        ("server.limits.max_request_size", "10M"),
        ("buckets.b.max_request_size", "1.5GiB"),
        ("server.limits.max_request_size", "100MB"),
        ("log.level", "INFO"),
        ("log.level", "Warning"),
        ("log.access", "no"),
        ("buckets.b.s3.hedging.enabled", "yes"),
    ] {
        let ExitReport { code, stderr, .. } = check(bucket().set(key, value));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{key} = {value}");
    }
    refused(
        bucket().set("server.keep_alive", "1 fortnight"),
        &["server.keep_alive", "is not a duration", "1m30s"],
    );
    refused(bucket().set("server.limits.max_request_size", "5 apples"), &["is not a size", "512Mi"]);
}

/// G1: `K`, `M`, `G` are binary and `kB`, `MB`, `GB` decimal
#[tokio::test]
async fn a_size_means_what_its_unit_says() {
    let upstream = Upstream::ok("x");
    for (unit, bytes) in [("1K", 1024), ("1Ki", 1024), ("1kB", 1000)] {
        let gateway =
            Gateway::builder().bucket("b", &upstream).set("buckets.b.max_request_size", unit).start().await;
        let put = async |length: usize| {
            crate::support::put(gateway.address(), "/b/k", &"x".repeat(length)).await.complete_status()
        };
        assert_eq!((put(bytes).await, put(bytes + 1).await), (200, 413), "{unit}");
    }
}

/// G1: a lower-case variable is refused as a mistake, not ignored as another program's
#[test]
fn a_variable_in_lower_case_is_refused() {
    refused(
        bucket().env("tidegate_server__port", "9000"),
        &[
            "names of variables are in upper case",
            "tidegate_server__port",
            "did you mean TIDEGATE_SERVER__PORT?",
        ],
    );
    let ExitReport { stderr, .. } = check(bucket().env("tidegate_keys__k__secret", "hunter2"));
    assert!(stderr.contains("TIDEGATE_KEYS__K__SECRET") && !stderr.contains("hunter2"), "{stderr}");
}

/// G1: a single underscore in the place of two is named
#[test]
fn a_missing_underscore_is_named() {
    for name in
        ["TIDEGATE_BUCKETS_PHOTOS_AUTH", "TIDEGATE_BUCKETS__PHOTOS_AUTH", "TIDEGATE_BUCKETS_PHOTOS__AUTH"]
    {
        refused(bucket().env(name, "anonymous"), &[name, "did you mean TIDEGATE_BUCKETS__PHOTOS__AUTH?"]);
    }
}

/// G1: a section in the singular gets a hint with the plural
#[test]
fn a_section_in_the_singular_names_the_plural() {
    refused(bucket().config("[bucket.x]\n"), &["bucket.x", "did you mean buckets.x?"]);
    refused(
        bucket().config("[bucket.x.s3]\nendpoints = [\"http://127.0.0.1:1\"]\n"),
        &["bucket.x.s3.endpoints", "did you mean buckets.x.s3.endpoints?"],
    );
}

/// G1: two buckets with one pattern are refused
#[test]
fn a_duplicate_pattern_is_named() {
    let twice = bucket()
        .set("buckets.b.pattern", "logs-*")
        .set("buckets.c.pattern", "logs-*")
        .set("buckets.c.s3.endpoints", "http://127.0.0.1:9000");
    refused(twice, &["buckets.c: has the same pattern \"logs-*\" as buckets.b"]);
}
