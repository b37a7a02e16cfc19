//! Pairs of keys that defeat each other (G12): the warning names both with their values and origins, what happens, and the fix.

use super::warnings::{OPEN, warned};

/// Keys below `buckets.b.s3`, then the one warning that they give, without `buckets.b.s3.` at its beginning.
const OF_A_BUCKET: &[(&str, &str)] = &[
    (
        "retry = { max_attempts = 1, budget.percent = 10 }",
        "retry.budget.percent: 10 % has no effect: buckets.b.s3.retry.max_attempts (1, from t.toml) turns retries off \
         (from t.toml); remove it, or set buckets.b.s3.retry.max_attempts to at least 2",
    ),
    (
        "retry = { max_attempts = 1, initial_backoff_ms = 5 }",
        "retry.initial_backoff_ms: 5 ms has no effect: buckets.b.s3.retry.max_attempts (1, from t.toml) turns retries \
         off (from t.toml); remove it, or set buckets.b.s3.retry.max_attempts to at least 2",
    ),
    (
        "retry.budget = { percent = 0, min_concurrent = 0 }",
        "retry.budget.percent: 0 % and buckets.b.s3.retry.budget.min_concurrent (0, from t.toml) allow no retry: \
         buckets.b.s3.retry.max_attempts (3, default) has no effect (from t.toml); raise one of them, or set max_attempts to 1",
    ),
    (
        "retry.initial_backoff_ms = 40000",
        "retry.initial_backoff_ms: 40000 ms is not below server.request_timeout (30 s, default): the pause can leave no time \
         for a second attempt (from t.toml); lower it, or raise server.request_timeout",
    ),
    (
        "hedging.burst = 5",
        "hedging.burst: 5 has no effect: buckets.b.s3.hedging.enabled (false, default) is off (from t.toml); remove it, or \
         set buckets.b.s3.hedging.enabled to true",
    ),
    (
        "hedging = { enabled = true, delay_max_ms = 20000 }",
        "hedging.delay_max_ms: 20000 ms is not below buckets.b.s3.timeout (20 s, default), at which a call fails (from \
         t.toml); lower it, or raise buckets.b.s3.timeout",
    ),
    (
        "circuit_breaker = { mode = \"off\", failure_threshold = 3 }",
        "circuit_breaker.failure_threshold: 3 has no effect: buckets.b.s3.circuit_breaker.mode (\"off\", from t.toml) never \
         opens a circuit (from t.toml); remove it, or set buckets.b.s3.circuit_breaker.mode to on",
    ),
    (
        "circuit_breaker = { mode = \"shadow\", hold_ms = 10 }",
        "circuit_breaker.hold_ms: 10 ms has no effect: buckets.b.s3.circuit_breaker.mode (\"shadow\", from t.toml) refuses \
         no request, so no request waits for a circuit (from t.toml); remove it, or set \
         buckets.b.s3.circuit_breaker.mode to on",
    ),
    (
        "circuit_breaker.failure_threshold = 51",
        "circuit_breaker.failure_threshold: 51 is never reached: buckets.b.s3.circuit_breaker.failure_rate_threshold (50 %, \
         default) of buckets.b.s3.circuit_breaker.window_calls (100, default) opens the circuit after at most 50 consecutive \
         failures (from t.toml); lower it to at most 50, or set it to 1000000, which turns it off",
    ),
    (
        "circuit_breaker = { hold_ms = 30000 }",
        "circuit_breaker.hold_ms: 30000 ms is not below server.request_timeout (30 s, default): a request that waits that \
         long has no time left for the upstream (from t.toml); lower it, or raise server.request_timeout",
    ),
    (
        "circuit_breaker = { hold_ms = 5, max_held = 1001 }",
        "circuit_breaker.max_held: 1001 is above server.max_concurrent_requests (1000, default), which refuses further \
         requests first (from t.toml); lower it, or raise server.max_concurrent_requests",
    ),
    (
        "circuit_breaker.connect_probe_interval_ms = 600000",
        "circuit_breaker.connect_probe_interval_ms: 600000 ms is not below \
         buckets.b.s3.circuit_breaker.max_timeout_seconds (600 s, default): every open time ends before the first test (from \
         t.toml); lower it",
    ),
    (
        "circuit_breaker.half_open_max_requests = 51",
        "circuit_breaker.half_open_max_requests: 51 is above buckets.b.s3.concurrency.max_concurrent (50, default), which \
         limits trial requests too (from t.toml); lower it",
    ),
    (
        "concurrency = { max_queued = 0, queue_timeout_ms = 5 }",
        "concurrency.queue_timeout_ms: 5 ms has no effect: buckets.b.s3.concurrency.max_queued (0, from t.toml), so no \
         request waits (from t.toml); remove it, or raise buckets.b.s3.concurrency.max_queued",
    ),
    (
        "concurrency = { max_queued = 7, queue_timeout_ms = 0 }",
        "concurrency.max_queued: 7 has no effect: buckets.b.s3.concurrency.queue_timeout_ms (0 ms, from t.toml), so no \
         request waits (from t.toml); remove it, or raise buckets.b.s3.concurrency.queue_timeout_ms",
    ),
    (
        "concurrency.queue_timeout_ms = 30000",
        "concurrency.queue_timeout_ms: 30000 ms is not below server.request_timeout (30 s, default): a request that waits that \
         long has no time left for the upstream (from t.toml); lower it, or raise server.request_timeout",
    ),
    (
        "concurrency = { overload = \"codel\", codel_interval_ms = 1001 }",
        "concurrency.codel_interval_ms: 1001 ms is above buckets.b.s3.concurrency.queue_timeout_ms (1000 ms, default): requests \
         leave the queue before an overload is detected (from t.toml); lower it, or raise \
         buckets.b.s3.concurrency.queue_timeout_ms",
    ),
    (
        "concurrency.adaptive.min = 5",
        "concurrency.adaptive.min: 5 has no effect: buckets.b.s3.concurrency.adaptive.enabled (false, default) (from t.toml); \
         remove it, or set buckets.b.s3.concurrency.adaptive.enabled to true",
    ),
    (
        "concurrency.adaptive = { enabled = true, min = 50 }",
        "concurrency.adaptive.min: 50 is not below the lower of buckets.b.s3.concurrency.max_concurrent (50, default) and \
         buckets.b.s3.connection_pool.size (50, default): the limit cannot change (from t.toml); lower it",
    ),
    (
        "connect_timeout = 30",
        "connect_timeout: 30 s is not below server.request_timeout (30 s, default), which ends earlier (from t.toml); lower it, \
         or raise server.request_timeout",
    ),
    (
        "outlier_ejection.max_percent = 50",
        "outlier_ejection.max_percent: 50 % has no effect with one endpoint: buckets.b.s3.endpoints \
         ([\"http://store:9000\"], from t.toml) (from t.toml); remove it, or list more endpoints",
    ),
    (
        "credential_pool.refused_seconds = 5",
        "credential_pool.refused_seconds: 5 s has no effect: buckets.b.s3.credentials is not set (from t.toml); remove it, or \
         define named credentials",
    ),
];

/// Keys of the whole file, then the one warning that they give.
const OF_THE_PROCESS: &[(&str, &str)] = &[
    (
        "admin.tls.reload_interval = 5",
        "admin.tls.reload_interval: 5 s has no effect: admin.tls.certificate_file is not set (from t.toml); remove it, or set the \
         certificate and its key",
    ),
    (
        "server.tls.reload_interval = 5",
        "server.tls.reload_interval: 5 s has no effect: server.tls.certificate_file is not set (from t.toml); remove it, or \
         set the certificate and its key",
    ),
    (
        "server.client_address_header = \"forwarded\"",
        "server.client_address_header: \"forwarded\" has no effect: server.trusted_proxies ([], default) lists no proxy (from \
         t.toml); list the networks of your proxies, or remove it",
    ),
    (
        "server.min_body_rate = 0\nserver.min_body_rate_grace = 3",
        "server.min_body_rate_grace: 3 s has no effect: server.min_body_rate (0 bytes, from t.toml) is off (from t.toml); \
         remove it, or set the rate",
    ),
    (
        "server.send_buffer = 0\nserver.send_buffer_per_connection = \"1MiB\"",
        "server.send_buffer_per_connection: \"1MiB\" has no effect: server.send_buffer (0 bytes, from t.toml) holds no \
         response (from t.toml); remove it, or raise server.send_buffer",
    ),
    (
        "rate_limit.headers = \"always\"",
        "rate_limit.headers: \"always\" has no effect: no rate limit is set (from t.toml); remove it, or set a limit such as \
         rate_limit.global.requests_per_second",
    ),
    (
        "rate_limit.table_capacity = 7\nrate_limit.global.requests_per_second = 5",
        "rate_limit.table_capacity: 7 has no effect: rate_limit.per_ip, rate_limit.per_subject and rate_limit.failed_auth are \
         not set (from t.toml); remove it, or set one of these limits",
    ),
    (
        "supervision.ask_timeout_ms = 60000",
        "supervision.ask_timeout_ms: 60000 ms is above server.request_timeout (30 s, default), which ends earlier (from \
         t.toml); lower it",
    ),
    (
        "supervision.mailbox_capacity = 999",
        "supervision.mailbox_capacity: 999 is below server.max_concurrent_requests (1000, default): a burst within that limit \
         gets `busy` from a full mailbox (from t.toml); raise it, or lower server.max_concurrent_requests",
    ),
    (
        "monitor.dwell_ms = 99",
        "monitor.dwell_ms: 99 ms has no effect: it is below monitor.interval_ms (100 ms, default), so one sample lowers the \
         level (from t.toml); raise it, or set it to 0",
    ),
    (
        "dns.timeout = 6",
        "dns.timeout: 6 s is above buckets.b.s3.connect_timeout (5 s, default), which includes the lookup and ends earlier \
         (from t.toml); lower it, or raise connect_timeout",
    ),
    (
        "buckets.b.max_request_size = \"512K\"\nbuckets.b.max_chunk_size = \"2MiB\"",
        "buckets.b.max_chunk_size: \"2MiB\" is above buckets.b.max_request_size (\"512KiB\", from t.toml), which refuses the \
         request first (from t.toml); lower it, or raise max_request_size",
    ),
    (
        "buckets.b.s3.failover.endpoints = [\"http://a\", \"http://c\"]\nbuckets.b.s3.outlier_ejection.max_percent = 33",
        "buckets.b.s3.outlier_ejection.max_percent: 33 % of 3 endpoints is less than one, so none is ejected: \
         buckets.b.s3.endpoints ([\"http://store:9000\"], from t.toml) (from t.toml); raise it to at least 34, or set it to 0 \
         to turn ejections off",
    ),
    (
        "buckets.b.s3.concurrency.max_concurrent = 70\n\
         buckets.b.s3.credentials.k = { access_key_id = \"A\", secret_access_key = \"hunter2\" }",
        "buckets.b.s3.concurrency.max_concurrent: 70 is above the sum of the limits of buckets.b.s3.credentials (50): only 50 \
         requests run at a time (from t.toml); lower it to 50, or raise max_concurrent of the credentials",
    ),
    (
        "buckets.b.s3.credentials.k = { access_key_id = \"A\", secret_access_key = \"hunter2\", max_concurrent = 51 }",
        "buckets.b.s3.credentials.k.max_concurrent: 51 is above buckets.b.s3.concurrency.max_concurrent (50, default), which is \
         the limit of all credentials together (from t.toml); lower it",
    ),
];

/// G12
#[test]
fn each_pair_gives_one_warning() {
    for (keys, expected) in OF_A_BUCKET {
        let section: String = keys_of(keys);
        assert_eq!(warned(&format!("{OPEN}{section}"), &[]), [format!("buckets.b.s3.{expected}")], "{keys}");
    }
    for (text, expected) in OF_THE_PROCESS {
        assert_eq!(warned(&format!("{text}\n{OPEN}"), &[]), [*expected], "{text}");
    }
}

fn keys_of(key: &str) -> String {
    format!("buckets.b.s3.{key}\n")
}

/// G12: the same keys without the contradiction cause no warning
#[test]
fn sound_pairs_give_no_warning() {
    for keys in [
        "retry = { max_attempts = 2, budget.percent = 10 }",
        "retry.budget = { percent = 0, min_per_second = 1 }",
        "hedging = { enabled = true, burst = 5, delay_max_ms = 19999 }",
        "circuit_breaker = { mode = \"shadow\", failure_threshold = 3 }",
        "circuit_breaker.failure_threshold = 50",
        "circuit_breaker.failure_threshold = 1000000",
        "circuit_breaker = { hold_ms = 29999, max_held = 1000 }",
        "circuit_breaker = { connect_probe_interval_ms = 1000, half_open_max_requests = 50 }",
        "concurrency = { max_queued = 7, queue_timeout_ms = 29999 }",
        "concurrency = { overload = \"codel\", codel_interval_ms = 1000 }",
        "concurrency.adaptive = { enabled = true, min = 49 }",
        "connect_timeout = 29",
        "slow_start_seconds = 5\nbuckets.b.s3.failover.endpoints = [\"http://a\"]",
        "health_check.path = \"/live\"",
        "credentials.k = { access_key_id = \"A\", secret_access_key = \"B\", max_concurrent = 20 }",
    ] {
        assert_eq!(warned(&format!("{OPEN}{}", keys_of(keys)), &[]), [""; 0], "{keys}");
    }
    for text in [
        "rate_limit.table_capacity = 7\nrate_limit.failed_auth.requests_per_second = 5",
        "rate_limit.headers = \"always\"\nbuckets.b.rate_limit.requests_per_second = 5",
        "server.client_address_header = \"forwarded\"\nserver.trusted_proxies = [\"10.0.0.0/8\"]",
        "supervision.mailbox_capacity = 1000",
        "dns.timeout = 4",
        "monitor.dwell_ms = 0",
        "buckets.b.max_chunk_size = \"2MiB\"",
    ] {
        assert_eq!(warned(&format!("{text}\n{OPEN}"), &[]), [""; 0], "{text}");
    }
}

/// G12: a pool that is smaller than the default of the concurrency limit lowers the limit, which the listing then shows
#[test]
fn the_default_limit_follows_the_pool() {
    use crate::{Sources, load};
    let limits = |keys: &str| {
        let text = format!("{OPEN}{keys}");
        let upstream = load(Sources::default().text("t.toml", text)).unwrap().buckets["b"].upstream.clone();
        let concurrency = upstream.concurrency;
        (concurrency.max_concurrent.get(), concurrency.adaptive.min.get())
    };
    assert_eq!(limits("buckets.b.s3.connection_pool.size = 20"), (20, 3));
    assert_eq!(limits("buckets.b.s3.connection_pool.size = 2"), (2, 2));
    assert_eq!(limits("buckets.b.s3.connection_pool.size = 90"), (50, 3));
    let adaptive = "buckets.b.s3.connection_pool.size = 20\nbuckets.b.s3.concurrency.adaptive";
    assert_eq!(limits(&format!("{adaptive} = {{ enabled = true, min = 30 }}")), (30, 30));
    let set = "buckets.b.s3.connection_pool.size = 20\nbuckets.b.s3.concurrency.max_concurrent = 40";
    assert_eq!(limits(set), (40, 3), "a limit that is set stays, with a warning");
}
