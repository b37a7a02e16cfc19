//! Every way to get a bucket wrong that we know of, and the one line each gives.

use super::{DEMO, from_toml, lines};

/// One wrong key of a bucket each, below `[buckets.b]`: text, and the lines it gives.
const BUCKETS: &[(&str, &str)] = &[
    (
        "",
        "s3.endpoints: a bucket needs an endpoint (not set); name at least one, such as http://10.0.0.5:9000",
    ),
    (
        "s3.endpoints = []",
        "s3.endpoints: a bucket needs an endpoint (from t.toml); name at least one, such as http://10.0.0.5:9000",
    ),
    (
        "s3.endpoints = [\"http://a\"]\nforwarded = \"keep\"",
        "forwarded: \"keep\" is none of drop, set, pass (from t.toml)",
    ),
    ("s3.endpoints = \"http://a\"", "s3.endpoints: must be a list (from t.toml); put it in brackets"),
    (
        "s3.endpoints = [\"https://a\", \"http://a:443\"]",
        "s3.endpoints: port 443 of a is listed with TLS and without (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.system_roots = false }",
        "s3.tls.system_roots: leaves no authority to believe (from t.toml); set buckets.b.s3.tls.ca_file",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.ca_file = \"/nowhere/ca.pem\" }",
        "s3.tls.ca_file: \"/nowhere/ca.pem\" cannot be read: No such file or directory (os error 2) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://10.0.0.5:9000\"], addressing = \"virtual\" }",
        "s3.addressing: virtual needs a name, and http://10.0.0.5:9000 has an address (from t.toml); name the \
         endpoint, or use path",
    ),
    (
        "s3 = { endpoints = [\"http://a/b\"], addressing = \"virtual\" }",
        "s3.addressing: virtual needs endpoints without a path, and http://a/b has one (from t.toml); use path",
    ),
    (
        "pattern = \"acme:*\"\ns3 = { endpoints = [\"http://a\"], addressing = \"virtual\" }",
        "s3.addressing: virtual needs a name without a tenant: no Host can hold \"acme:*\" (from t.toml); use path",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], addressing = \"virtual\", bucket = \"acme:photos\" }",
        "s3.addressing: virtual needs a name without a tenant: no Host can hold \"acme:photos\" (from t.toml); use path",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.sni = \"host\" }",
        "s3.tls.sni: host has no effect: buckets.b.s3.addressing is path, so each Host is the endpoint's (from t.toml); \
         set buckets.b.s3.addressing to virtual, or take this away",
    ),
    (
        "s3 = { endpoints = [\"https://a\"], tls.sni = \"bucket\", addressing = \"virtual\" }",
        "s3.tls.sni: \"bucket\" is none of endpoint, host (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], bucket = \"storage/v1/b\" }",
        "s3.bucket: \"storage/v1/b\" is no bucket name: it holds '/' (from t.toml); the path of an API below one belongs \
         in the URL of its endpoints",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], bucket = \"acme:\" }",
        "s3.bucket: \"acme:\" is no bucket name: no bucket stands behind its `:` (from t.toml)",
    ),
    (
        "s3.endpoints = [\"http://me:hunter2@a\"]",
        "s3.endpoints: an endpoint must not hold a user name or password (from t.toml); credentials have keys \
         of their own",
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
         buckets.b.s3.circuit_breaker.slow_call_duration_ms (from t.toml); say with \
         buckets.b.s3.circuit_breaker.slow_call_duration_ms what is slow, or take this away",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], timeout = 2, circuit_breaker.slow_call_duration_ms = 2000 }",
        "s3.circuit_breaker.slow_call_duration_ms: 2000 must be below buckets.b.s3.timeout (2 s): what takes that \
         long has failed (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker.mode = \"closed\" }",
        "s3.circuit_breaker.mode: \"closed\" is none of on, off, shadow, forced_open (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker.hold_ms = 31000 }",
        "s3.circuit_breaker.hold_ms: 31000 must be at most server.request_timeout (30 s): nobody waits past that \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], circuit_breaker.max_held = 8 }",
        "s3.circuit_breaker.max_held: has no effect without buckets.b.s3.circuit_breaker.hold_ms (from t.toml); \
         say with buckets.b.s3.circuit_breaker.hold_ms how long, or take this away",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.queue_timeout_ms = 31000 }",
        "s3.concurrency.queue_timeout_ms: 31000 must be at most server.request_timeout (30 s): nobody waits past \
         that (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency = { max_concurrent = 2, adaptive.min = 5 } }",
        "s3.concurrency.adaptive.min: 5 must be at most buckets.b.s3.concurrency.max_concurrent (2) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.max_queued = 0, concurrency.priority.list = \"low\" }",
        "s3.concurrency.priority: has no effect: buckets.b.s3.concurrency.max_queued is 0, so nobody waits (from t.toml)",
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
        "s3.concurrency.overload: has no effect: buckets.b.s3.concurrency.max_queued is 0, so nobody waits (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], concurrency.priority.read = \"urgent\" }",
        "s3.concurrency.priority.read: \"urgent\" is none of high, normal, low (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging = { delay_min_ms = 60, delay_max_ms = 50 } }",
        "s3.hedging.delay_min_ms: 60 must be at most buckets.b.s3.hedging.delay_max_ms (50) (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging.enabled = true, retry.max_attempts = 1 }",
        "s3.hedging.enabled: true needs buckets.b.s3.retry.max_attempts to be at least 2: a hedge is an attempt \
         (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging.enabled = true, concurrency.max_concurrent = 1 }",
        "s3.hedging.enabled: true needs buckets.b.s3.concurrency.max_concurrent to be at least 2: a hedge has a \
         place of its own (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], hedging.enabled = true, connection_pool.size = 1 }",
        "s3.hedging.enabled: true needs buckets.b.s3.connection_pool.size to be at least 2: a hedge has a connection \
         of its own (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], timeout = 1, hedging = { enabled = true, delay_min_ms = 1000 } }",
        "s3.hedging.delay_min_ms: 1000 must be below buckets.b.s3.timeout (1 s): what takes that long has failed \
         (from t.toml)",
    ),
    (
        "auth = [\"jwt\"]\ns3.endpoints = [\"http://a\"]",
        "auth: lists jwt, and no tokens are believed (from t.toml); set jwt.issuer, jwt.audience and a key such as \
         jwt.jwks_url",
    ),
    (
        "auth = [\"anonymus\"]\ns3.endpoints = [\"http://a\"]",
        "auth: \"anonymus\" is no authentication method (from t.toml); sigv4 asks for a client key's signature, jwt \
         for a token, api_key for a secret in a header, anonymous lets everybody in",
    ),
    (
        "auth = [\"sigv4\"]\nkind = \"http\"\nhttp.endpoints = [\"http://a\"]",
        "auth: sigv4 is for buckets of kind s3 (from t.toml); set buckets.b.kind to s3, or list another method",
    ),
    (
        "auth = [\"sigv4\"]\nanonymous = [\"read\"]\ns3.endpoints = [\"http://a\"]",
        "anonymous: has no effect: buckets.b.auth does not list anonymous (from t.toml); add anonymous to \
         buckets.b.auth, or take this away",
    ),
    (
        "pattern = \"a/b\"\ns3.endpoints = [\"http://a\"]",
        "pattern: \"a/b\" is no pattern: it holds '/', only letters, digits, `.`, `_`, `-` and one `:` \
         behind a tenant are allowed (from t.toml)",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], access_key_id = \"x\" }",
        "s3.secret_access_key: is missing, but buckets.b.s3.access_key_id is set (not set); set both, or \
         neither to send unsigned",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], session_token = \"t\" }",
        "s3.access_key_id: is missing, but buckets.b.s3.session_token is set (not set); set both, or neither to \
         send unsigned",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], access_key_id = \"x\", secret_access_key = \"y\", \
         container_credentials.url = \"http://127.0.0.1/c\" }",
        "s3.container_credentials: is set, and so is buckets.b.s3.access_key_id (from t.toml); a bucket has one \
         source of credentials",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], container_credentials.url = \"http://10.0.0.1/c\" }",
        "s3.container_credentials.url: http://10.0.0.1/c would send credentials in the clear (from t.toml); use \
         https://; http:// is for loopback and link-local addresses",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], bucket = 2024 }",
        "s3.bucket: must be text (from t.toml); put the value in quotes",
    ),
    (
        "s3.endpoints = [\"http://a\"]\nkind = \"http\"\nhttp.endpoints = [\"http://a\"]",
        "s3: is not read, this bucket is of kind http (from t.toml); use buckets.b.http, or set buckets.b.kind \
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
         buckets.b.s3.health_check.path to what endpoints are to be asked for",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], health_check.path = \"health\" }",
        "s3.health_check.path: \"health\" is no path (from t.toml); such as /minio/health/live; it begins with a \
         slash",
    ),
    (
        "s3 = { endpoints = [\"http://a\"], failover.return_after_seconds = 1 }",
        "s3.failover.return_after_seconds: has no effect without endpoints (from t.toml); name those that stand by \
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
            "it holds '/', only letters, digits, `.`, `_`, `-` and one `:` behind a tenant are allowed (from t.toml)",
        ),
        ("a:b:c", "it holds more than one `:` (from t.toml)"),
        ("..", "its tenant or bucket is `.` or `..` (from t.toml)"),
        ("", "it is empty (from t.toml)"),
        ("a*", "it holds `*` (from t.toml); give the bucket a name and a pattern"),
    ] {
        let text = format!("[buckets.\"{name}\".s3]\nendpoints = [\"http://a\"]\n");
        let key = if name == "-x" { name.to_owned() } else { format!("\"{name}\"") };
        assert_eq!(lines(from_toml(&text)), [format!("buckets.{key}: is no bucket name: {why}")]);
    }
}

#[test]
fn two_buckets_for_the_same_names_are_refused() {
    let text = format!("{DEMO}[buckets.other]\npattern = \"demo\"\ns3.endpoints = [\"http://a\"]\n");
    let expected = "buckets.other: has the pattern \"demo\", and so has buckets.demo (from t.toml); give one of them \
                    another pattern";
    assert_eq!(lines(from_toml(&text)), [expected]);
}
