//! Invalid buckets, and the one line of error for each.

use super::{DEMO, from_toml, lines};

/// One wrong key of a bucket each, below `[buckets.b]`: text, and the lines it gives.
const BUCKETS: &[(&str, &str)] = &[
    (
        "",
        "s3.endpoints: a bucket needs an endpoint (not set); set at least one, such as http://10.0.0.5:9000",
    ),
    (
        "s3.endpoints = []",
        "s3.endpoints: a bucket needs an endpoint (from t.toml); set at least one, such as http://10.0.0.5:9000",
    ),
    (
        "s3.endpoints = [\"http://a\"]\nforwarded = \"keep\"",
        "forwarded: \"keep\" is not one of drop, set, pass (from t.toml)",
    ),
    (
        "s3.endpoints = \"http://a\"",
        "s3.endpoints: must be a list (from t.toml); put the value into brackets",
    ),
    (
        "s3.endpoints = [\"https://a\", \"http://a:443\"]",
        "s3.endpoints: port 443 of a is listed both with TLS and without (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.system_roots = false }",
        "s3.tls.system_roots: leaves no trusted certificate authority (from t.toml); set buckets.b.s3.tls.ca_file",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.ca_file = \"/nowhere/ca.pem\" }",
        "s3.tls.ca_file: \"/nowhere/ca.pem\" cannot be read: No such file or directory (os error 2) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://10.0.0.5:9000\"], addressing = \"virtual\" }",
        "s3.addressing: virtual needs endpoints with a host name, and http://10.0.0.5:9000 has an IP address (from \
         t.toml); use the host name of the endpoint, or path",
    ),
    (
        "s3 = { endpoints = [\"http://a/b\"], addressing = \"virtual\" }",
        "s3.addressing: virtual needs endpoints without a path, and http://a/b has one (from t.toml); use path",
    ),
    (
        "pattern = \"acme:*\"\ns3 = { endpoints = [\"http://a\"], addressing = \"virtual\" }",
        "s3.addressing: virtual needs a bucket name without a tenant: a Host cannot contain \"acme:*\" (from t.toml); use path",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], addressing = \"virtual\", bucket = \"acme:photos\" }",
        "s3.addressing: virtual needs a bucket name without a tenant: a Host cannot contain \"acme:photos\" (from \
         t.toml); use path",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.sni = \"host\" }",
        "s3.tls.sni: host has no effect: buckets.b.s3.addressing is path, so each Host is the endpoint's (from t.toml); \
         set buckets.b.s3.addressing to virtual, or remove this key",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.sni = \"bucket\", addressing = \"virtual\" }",
        "s3.tls.sni: \"bucket\" is not one of endpoint, host (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], bucket = \"storage/v1/b\" }",
        "s3.bucket: \"storage/v1/b\" is not a bucket name: it contains '/' (from t.toml); put the path of an API into \
         the URLs of the endpoints",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], bucket = \"acme:\" }",
        "s3.bucket: \"acme:\" is not a bucket name: it has no bucket after its `:` (from t.toml)",
    ),
    (
        "s3.endpoints = [\"http://me:hunter2@a\"]",
        "s3.endpoints: an endpoint must not have a user name or password (from t.toml); set the keys for credentials",
    ),
    (
        "s3.endpoints = [\"http://a\", \"http://A:80\"]",
        "s3.endpoints: http://a is listed twice (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker = { timeout_seconds = 60, max_timeout_seconds = 30 } }",
        "s3.circuit_breaker.timeout_seconds: 60 must be at most buckets.b.s3.circuit_breaker.max_timeout_seconds \
         (30) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker = { minimum_calls = 60, window_calls = 50 } }",
        "s3.circuit_breaker.minimum_calls: 60 must be at most buckets.b.s3.circuit_breaker.window_calls (50) \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker.slow_call_rate_threshold = 20 }",
        "s3.circuit_breaker.slow_call_rate_threshold: has no effect without \
         buckets.b.s3.circuit_breaker.slow_call_duration_ms (from t.toml); set \
         buckets.b.s3.circuit_breaker.slow_call_duration_ms, or remove this key",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], timeout = 2, circuit_breaker.slow_call_duration_ms = 2000 }",
        "s3.circuit_breaker.slow_call_duration_ms: 2000 must be below buckets.b.s3.timeout (2 s), at which a call \
         fails (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker.mode = \"closed\" }",
        "s3.circuit_breaker.mode: \"closed\" is not one of on, off, shadow, forced_open (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker.hold_ms = 31000 }",
        "s3.circuit_breaker.hold_ms: 31000 must be at most server.request_timeout (30 s), which ends every wait \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker.max_held = 8 }",
        "s3.circuit_breaker.max_held: has no effect without buckets.b.s3.circuit_breaker.hold_ms (from t.toml); \
         set buckets.b.s3.circuit_breaker.hold_ms, or remove this key",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.queue_timeout_ms = 31000 }",
        "s3.concurrency.queue_timeout_ms: 31000 must be at most server.request_timeout (30 s), which ends every wait \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency = { max_concurrent = 2, adaptive.min = 5 } }",
        "s3.concurrency.adaptive.min: 5 must be at most buckets.b.s3.concurrency.max_concurrent (2) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.max_queued = 0, concurrency.priority.list = \"low\" }",
        "s3.concurrency.priority: has no effect: buckets.b.s3.concurrency.max_queued is 0, so no request waits (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.overload = \"codel\", concurrency.codel_target_ms = 1001, \
         concurrency.codel_interval_ms = 5000 }",
        "s3.concurrency.codel_target_ms: 1001 must be at most buckets.b.s3.concurrency.queue_timeout_ms (1000) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.overload = \"codel\", concurrency.codel_interval_ms = 19 }",
        "s3.concurrency.codel_interval_ms: 19 must be at least buckets.b.s3.concurrency.codel_target_ms (20) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.codel_target_ms = 10 }",
        "s3.concurrency.codel_target_ms: has no effect: buckets.b.s3.concurrency.overload is not codel (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.overload = \"codel\", concurrency.max_queued = 0 }",
        "s3.concurrency.overload: has no effect: buckets.b.s3.concurrency.max_queued is 0, so no request waits (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.priority.read = \"urgent\" }",
        "s3.concurrency.priority.read: \"urgent\" is not one of high, normal, low (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging = { delay_min_ms = 60, delay_max_ms = 50 } }",
        "s3.hedging.delay_min_ms: 60 must be at most buckets.b.s3.hedging.delay_max_ms (50) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging.enabled = true, retry.max_attempts = 1 }",
        "s3.hedging.enabled: needs buckets.b.s3.retry.max_attempts of at least 2: a hedge is an attempt \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging.enabled = true, concurrency.max_concurrent = 1 }",
        "s3.hedging.enabled: needs buckets.b.s3.concurrency.max_concurrent of at least 2: a hedge needs its own slot \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging.enabled = true, connection_pool.size = 1 }",
        "s3.hedging.enabled: needs buckets.b.s3.connection_pool.size of at least 2: a hedge needs its own connection \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], timeout = 1, hedging = { enabled = true, delay_min_ms = 1000 } }",
        "s3.hedging.delay_min_ms: 1000 must be below buckets.b.s3.timeout (1 s), at which a call fails \
         (from t.toml)",
    ),
    (
        "auth = [\"jwt\"]\ns3.endpoints = [\"http://a\"]",
        "auth: lists jwt, but the section jwt is not set (from t.toml); set jwt.issuer, jwt.audience and a key such as \
         jwt.jwks_url",
    ),
    (
        "auth = [\"anonymus\"]\ns3.endpoints = [\"http://a\"]",
        "auth: \"anonymus\" is not an authentication method (from t.toml); use sigv4 (signature of a client key), \
         sigv2 (also the older signature), jwt (token), api_key (secret in a header) or anonymous (no authentication)",
    ),
    (
        "auth = [\"sigv2\"]\ns3.endpoints = [\"http://a\"]",
        "auth: lists sigv2 without sigv4 (from t.toml); add sigv4, so that clients can use the stronger signature",
    ),
    (
        "auth = [\"sigv2\"]\nkind = \"http\"\nhttp.endpoints = [\"http://a\"]",
        "auth: sigv2 is only for buckets of kind s3 (from t.toml); set buckets.b.kind to s3, or use another method",
    ),
    (
        "auth = [\"sigv4\"]\nsigv2_max_lifetime = \"1d\"\ns3.endpoints = [\"http://a\"]",
        "sigv2_max_lifetime: has no effect: buckets.b.auth does not list sigv2 (from t.toml); add sigv2 to \
         buckets.b.auth, or remove this key",
    ),
    (
        "auth = [\"sigv4\", \"sigv2\"]\nsigv2_max_lifetime = 0\ns3.endpoints = [\"http://a\"]",
        "sigv2_max_lifetime: 0 is out of range 1–315360000 s (from t.toml)",
    ),
    (
        "auth = [\"sigv4\"]\nkind = \"http\"\nhttp.endpoints = [\"http://a\"]",
        "auth: sigv4 is only for buckets of kind s3 (from t.toml); set buckets.b.kind to s3, or use another method",
    ),
    (
        "auth = [\"sigv4\"]\nanonymous = [\"read\"]\ns3.endpoints = [\"http://a\"]",
        "anonymous: has no effect: buckets.b.auth does not list anonymous (from t.toml); add anonymous to \
         buckets.b.auth, or remove this key",
    ),
    (
        "pattern = \"a/b\"\ns3.endpoints = [\"http://a\"]",
        "pattern: \"a/b\" is not a pattern: it contains '/'; only letters, digits, `.`, `_`, `-` and one `:` after a \
         tenant are allowed (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], access_key_id = \"x\" }",
        "s3.secret_access_key: is required together with buckets.b.s3.access_key_id (not set); set both, or neither to send \
         unsigned requests",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], session_token = \"t\" }",
        "s3.access_key_id: is required together with buckets.b.s3.session_token (not set); set both, or neither to send \
         unsigned requests",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], access_key_id = \"x\", secret_access_key = \"y\", \
         container_credentials.url = \"http://127.0.0.1/c\" }",
        "s3.container_credentials: cannot be set together with buckets.b.s3.access_key_id (from t.toml); set one of \
         them: a bucket has one source of credentials",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], container_credentials.url = \"http://10.0.0.1/c\" }",
        "s3.container_credentials.url: http://10.0.0.1/c would send credentials without TLS to another machine (from \
         t.toml); use \
         https://; http:// is allowed for loopback and link-local addresses",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], bucket = 2024 }",
        "s3.bucket: must be text (from t.toml); put the value into quotes",
    ),
    (
        "s3.endpoints = [\"http://a\"]\nkind = \"http\"\nhttp.endpoints = [\"http://a\"]",
        "s3: has no effect: this bucket is of kind http (from t.toml); use buckets.b.http, or set buckets.b.kind \
         to s3",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], connection_pool.size = 5, connection_pool.max_idle = 6 }",
        "s3.connection_pool.max_idle: 6 must be at most buckets.b.s3.connection_pool.size (5) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], retry.max_backoff_ms = 10 }",
        "s3.retry.max_backoff_ms: 10 must be at least buckets.b.s3.retry.initial_backoff_ms (100) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], outlier_ejection.max_seconds = 10 }",
        "s3.outlier_ejection.max_seconds: 10 must be at least buckets.b.s3.outlier_ejection.base_seconds (30) \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], health_check.interval_seconds = 1 }",
        "s3.health_check.interval_seconds: has no effect without a path (from t.toml); set \
         buckets.b.s3.health_check.path to the path of the check",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], health_check.path = \"health\" }",
        "s3.health_check.path: \"health\" is not a path (from t.toml); use a path such as /minio/health/live",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], failover.return_after_seconds = 1 }",
        "s3.failover.return_after_seconds: has no effect without endpoints (from t.toml); list the standby endpoints \
         in buckets.b.s3.failover.endpoints",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], failover.endpoints = [\"http://a\"] }",
        "s3.endpoints: http://a is listed twice (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], failover.endpoints = [\"http://b/c\"], addressing = \"virtual\" }",
        "s3.addressing: virtual needs endpoints without a path, and http://b/c has one (from t.toml); use path",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], retry.max_attempts = 0 }",
        "s3.retry.max_attempts: 0 is out of range 1–10 (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], timeout = [1] }",
        "s3.timeout: must be one value, not a list (from t.toml)",
    ),
    (
        "s3.endpoint = [\"http://a\"]\ns3.endpoints = [\"http://a\"]",
        "s3.endpoint: unknown key (from t.toml); did you mean buckets.b.s3.endpoints?",
    ),
];

#[test]
fn each_wrong_key_of_a_bucket_gives_one_line() {
    for (text, expected) in BUCKETS {
        let found = lines(from_toml(&format!("[buckets.b]\n{text}\n")));
        assert_eq!(found, [format!("buckets.b.{expected}")], "{text}");
    }
}

#[test]
fn bad_bucket_names_are_refused() {
    for (name, why) in [
        ("-x", "it begins with `-` (from t.toml)"),
        (
            "a/b",
            "it contains '/'; only letters, digits, `.`, `_`, `-` and one `:` after a tenant are allowed (from t.toml)",
        ),
        ("a:b:c", "it contains more than one `:` (from t.toml)"),
        ("..", "its tenant or bucket is `.` or `..` (from t.toml)"),
        ("", "it is empty (from t.toml)"),
        ("a*", "it contains `*` (from t.toml); use a plain name, and set the pattern"),
    ] {
        let text = format!("[buckets.\"{name}\".s3]\nendpoints = [\"http://a\"]\n");
        let key = if name == "-x" { name.to_owned() } else { format!("\"{name}\"") };
        assert_eq!(lines(from_toml(&text)), [format!("buckets.{key}: is not a bucket name: {why}")]);
    }
}

#[test]
fn two_buckets_for_the_same_names_are_refused() {
    let text = format!("{DEMO}[buckets.other]\npattern = \"demo\"\ns3.endpoints = [\"http://a\"]\n");
    let expected = "buckets.other: has the same pattern \"demo\" as buckets.demo (from t.toml); give one of them \
                    another pattern";
    assert_eq!(lines(from_toml(&text)), [expected]);
}
