//! The guards of a comparison: every proxy gets the same limits, as far as it supports them.
//!
//! The rate limits are never reached, but counting costs time. The caps, the breaker, the retry and the access log are typical for
//! production.

use toml::{Table, Value};

use crate::gateway::table;

/// Rate limit, globally, per client and per bucket.
pub(crate) const REQUESTS_PER_SECOND: i64 = 1_000_000;
/// Concurrent requests to an ordinary upstream.
pub(crate) const CONCURRENT: i64 = 1_024;
/// Requests that may wait for an ordinary upstream.
pub(crate) const QUEUED: i64 = 512;
/// Concurrent requests to the capacity-limited upstream.
pub(crate) const CAPPED_CONCURRENT: i64 = 10;
/// Requests that may wait for the capacity-limited upstream.
pub(crate) const CAPPED_QUEUED: i64 = 50;
/// Maximum wait in the queue, and for an open circuit.
pub(crate) const QUEUE_MS: i64 = 500;
/// Consecutive failures that open the breaker.
pub(crate) const FAILURES: i64 = 5;
/// Open time of the breaker.
pub(crate) const OPEN_SECONDS: i64 = 1;
/// Interval of test connections to an upstream with failed connects.
pub(crate) const CONNECT_PROBE_MS: i64 = 20;
/// Attempts, the first included.
pub(crate) const ATTEMPTS: i64 = 2;
/// Connect timeout.
pub(crate) const CONNECT_SECONDS: i64 = 1;
/// Timeout for the first byte of an answer.
pub(crate) const FIRST_BYTE_SECONDS: i64 = 5;
/// Largest body, in MiB.
pub(crate) const BODY_MIB: i64 = 64;
/// Largest header section, in KiB.
pub(crate) const HEADER_KIB: i64 = 16;
/// Longest request target, in bytes.
pub(crate) const URI_BYTES: i64 = 8_192;

fn limit() -> Value {
    table([("requests_per_second", REQUESTS_PER_SECOND.into()), ("burst", REQUESTS_PER_SECOND.into())]).into()
}

/// The guards of tidegate as a whole.
pub(crate) fn gateway() -> Table {
    let limits = table([
        ("max_request_size", format!("{BODY_MIB}MiB").into()),
        ("max_header_size", (HEADER_KIB << 10).into()),
        ("max_uri_length", URI_BYTES.into()),
    ]);
    // The other proxies apply the answer timeout to all attempts together.
    let server = table([
        ("max_concurrent_requests", 8_192.into()),
        ("request_timeout", FIRST_BYTE_SECONDS.into()),
        ("limits", limits.into()),
    ]);
    table([
        ("server", server.into()),
        ("rate_limit", table([("global", limit()), ("per_ip", limit())]).into()),
    ])
}

/// The guards of one bucket of tidegate.
pub(crate) fn bucket(is_capped: bool) -> Table {
    let (concurrent, queued) =
        if is_capped { (CAPPED_CONCURRENT, CAPPED_QUEUED) } else { (CONCURRENT, QUEUED) };
    let upstream = table([
        ("connect_timeout", CONNECT_SECONDS.into()),
        ("timeout", FIRST_BYTE_SECONDS.into()),
        ("connection_pool", table([("size", 1_024.into()), ("max_idle", 512.into())]).into()),
        (
            "concurrency",
            table([
                ("max_concurrent", concurrent.into()),
                ("max_queued", queued.into()),
                ("queue_timeout_ms", QUEUE_MS.into()),
            ])
            .into(),
        ),
        (
            "circuit_breaker",
            table([
                ("failure_threshold", FAILURES.into()),
                ("timeout_seconds", OPEN_SECONDS.into()),
                ("connect_probe_interval_ms", CONNECT_PROBE_MS.into()),
                ("hold_ms", QUEUE_MS.into()),
            ])
            .into(),
        ),
        (
            "retry",
            table([
                ("max_attempts", ATTEMPTS.into()),
                ("initial_backoff_ms", 10.into()),
                ("max_backoff_ms", 100.into()),
            ])
            .into(),
        ),
    ]);
    table([("rate_limit", limit()), ("s3", upstream.into())])
}
