//! Settings that defeat or hide each other: `check` prints a warning and succeeds; with `--strict` it is an error
//! (G12).

use std::net::TcpListener;

use super::{bucket, check};
use crate::support::gateway::{Builder, ExitReport};
use crate::support::{Gateway, Scratch, Upstream};

/// The only warning for this configuration; with `--strict` the same line is an error.
fn warning_of(builder: impl Fn() -> Builder) -> String {
    let ExitReport { code, stdout, stderr } = check(builder());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.ends_with("1 warning\n"), "{stdout}{stderr}");
    let warning =
        stderr.strip_prefix("warning: ").unwrap_or_else(|| panic!("no warning: {stderr}")).to_owned();
    let strict = check(builder().argument("--strict"));
    assert_eq!(strict.code, Some(78), "{strict:?}");
    assert!(strict.stderr.starts_with(&format!("tidegate: {warning}")), "{}", strict.stderr);
    assert!(!strict.stdout.contains("the configuration is valid"), "{}", strict.stdout);
    warning
}

#[track_caller]
fn warns(builder: impl Fn() -> Builder, words: &[&str]) {
    let warning = warning_of(builder);
    for word in words {
        assert!(warning.contains(word), "`{word}` in {warning}");
    }
}

/// G12: a valid configuration gives no warning, also with `--strict`
#[test]
fn a_sound_configuration_gives_no_warning() {
    for strict in [false, true] {
        let builder = if strict { bucket().argument("--strict") } else { bucket() };
        let ExitReport { code, stdout, stderr } = check(builder);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        assert_eq!(stdout, "the configuration is valid: 1 bucket\n");
    }
}

/// G12
#[test]
fn a_pool_below_its_gate_warns() {
    let both = || {
        bucket()
            .set("buckets.b.s3.concurrency.max_concurrent", "900")
            .set("buckets.b.s3.connection_pool.size", "50")
    };
    warns(
        both,
        &[
            "buckets.b.s3.connection_pool.size: 50 is below buckets.b.s3.concurrency.max_concurrent (900, from TIDEGATE_",
        ],
    );
}

/// G12, P1: the pool's default size follows a configured gate
#[tokio::test]
async fn the_default_of_the_pool_follows_the_gate() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "900")
        .start()
        .await;
    assert!(gateway.metric("connection_pool_size{bucket=\"b\"}").await >= 900.0);
}

/// G12
#[test]
fn a_cap_below_a_gate_warns() {
    warns(
        || bucket().set("server.max_concurrent_requests", "10"),
        &[
            "server.max_concurrent_requests: 10 is below buckets.b.s3.concurrency.max_concurrent (50, default)",
        ],
    );
}

/// G12
#[test]
fn a_total_below_a_timeout_warns() {
    warns(
        || bucket().set("server.request_timeout", "10"),
        &["server.request_timeout: 10 s is below buckets.b.s3.timeout (20 s, default)"],
    );
    warns(
        || bucket().set("buckets.b.s3.timeout", "40s"),
        &["buckets.b.s3.timeout: 40 s is above server.request_timeout (30 s, default)"],
    );
}

/// G12: keys of a feature that another key switches off, and values that are never reached; both keys have value and origin
#[test]
fn keys_that_defeat_each_other_warn() {
    const BUCKET: &str = "TIDEGATE_BUCKETS__B__S3__";
    for (keys, words) in [
        (
            [("retry.max_attempts", "1"), ("retry.budget.percent", "10")],
            "buckets.b.s3.retry.budget.percent: 10 % has no effect: buckets.b.s3.retry.max_attempts (1, from @RETRY__MAX_ATTEMPTS)",
        ),
        (
            [("circuit_breaker.failure_threshold", "60"), ("circuit_breaker.window_calls", "110")],
            "buckets.b.s3.circuit_breaker.failure_threshold: 60 is never reached: \
             buckets.b.s3.circuit_breaker.failure_rate_threshold (50 %, default) of \
             buckets.b.s3.circuit_breaker.window_calls (110, from @CIRCUIT_BREAKER__WINDOW_CALLS) opens the circuit after at most \
             55 consecutive failures",
        ),
        (
            [("concurrency.queue_timeout_ms", "30s"), ("concurrency.max_queued", "10")],
            "buckets.b.s3.concurrency.queue_timeout_ms: 30000 ms is not below server.request_timeout (30 s, default)",
        ),
        (
            [("concurrency.shedding.mode", "off"), ("concurrency.shedding.target_wait_ms", "5")],
            "buckets.b.s3.concurrency.shedding.target_wait_ms: 5 ms has no effect: \
             buckets.b.s3.concurrency.shedding.mode (\"off\", from @CONCURRENCY__SHEDDING__MODE) never sheds",
        ),
        (
            [("concurrency.adaptive.enabled", "yes"), ("concurrency.adaptive.min", "50")],
            "buckets.b.s3.concurrency.adaptive.min: 50 is not below the lower of \
             buckets.b.s3.concurrency.max_concurrent (50, default)",
        ),
    ] {
        let built = || {
            keys.iter()
                .fold(bucket(), |builder, (key, value)| builder.set(&format!("buckets.b.s3.{key}"), value))
        };
        warns(built, &[&words.replace('@', BUCKET)]);
    }
}

/// G12, X1: a descriptor limit that the system does not give
#[test]
fn a_descriptor_limit_above_that_of_the_system_warns() {
    let above = || bucket().ulimit("-n 4096").set("monitor.descriptor_limit", "5000");
    warns(
        above,
        &["monitor.descriptor_limit: 5000 has no effect: the limit of open files is 4096, which is lower"],
    );
}

/// G12, P1: a pool that alone is set lowers the default of the gate, and the listing shows it
#[test]
fn the_default_of_the_gate_follows_the_pool() {
    let small = || bucket().set("buckets.b.s3.connection_pool.size", "20");
    assert_eq!(check(small().argument("--strict")).code, Some(0));
    let shown = small().argument("config").argument("buckets.b.s3.concurrency.max_concurrent").run();
    assert!(shown.stdout.ends_with("\n#buckets.b.s3.concurrency.max_concurrent = 20\n"), "{shown:?}");
}

/// G12, X1
#[test]
fn fewer_descriptors_than_connections_warn() {
    let few = || bucket().set("server.workers", "2").set("monitor.descriptor_limit", "900");
    warns(few, &["monitor.descriptor_limit: 900 descriptors are fewer than the 1200", "LimitNOFILE"]);
    let start = few().argument("--strict").run();
    assert_eq!((start.code, start.stdout.as_str()), (Some(78), ""), "{}", start.stderr);
}

/// G12, X1: more requests than the limit of open files allows
#[test]
fn more_requests_than_descriptors_warn() {
    let many = || bucket().ulimit("-n 2000").set("server.max_concurrent_requests", "5000");
    let words =
        ["monitor.descriptor_limit: 2000 descriptors are fewer than", "lower server.max_concurrent_requests"];
    warns(many, &words);
}

/// G12, A4
#[test]
fn a_bucket_without_auth_warns() {
    let closed = || Gateway::builder().set("buckets.c.s3.endpoints", "http://127.0.0.1:9000");
    warns(closed, &["buckets.c.auth: is empty: the bucket refuses every request"]);
}

/// G12
#[test]
fn overlapping_patterns_warn_and_name_the_winner() {
    let two = || {
        let one = |builder: Builder, name: &str, pattern: &str| {
            builder
                .set(&format!("buckets.{name}.auth"), "anonymous")
                .set(&format!("buckets.{name}.pattern"), pattern)
                .set(&format!("buckets.{name}.s3.endpoints"), "http://127.0.0.1:9000")
        };
        one(one(Gateway::builder(), "x", "logs-*"), "y", "*-audit")
    };
    warns(two, &["buckets.x.pattern: \"logs-*\" and \"*-audit\" of buckets.y", "which go to buckets.y"]);
}

/// G12: a log file that could not be appended to warns, and `check` does not create it
#[test]
fn a_log_file_that_cannot_be_written_warns() {
    warns(
        || bucket().set("log.output", "/nonexistent/tidegate.log"),
        &["log.output: /nonexistent/tidegate.log"],
    );
    let directory = Scratch::new();
    let path = directory.path().join("log");
    let fine = check(bucket().set("log.output", path.to_str().unwrap()));
    assert_eq!((fine.code, fine.stderr.as_str(), path.exists()), (Some(0), "", false));
    let is_directory = directory.path().to_str().unwrap().to_owned();
    warns(|| bucket().set("log.output", &is_directory), &["log.output: ", "directory"]);
}

/// G12
#[test]
fn chaos_and_an_open_admin_listener_warn() {
    warns(|| bucket().set("admin.chaos", "true"), &["admin.chaos: is on"]);
    let open =
        || bucket().set("admin.address", "0.0.0.0").set("admin.token", "operator-0123456789abcdef0123456789");
    warns(
        open,
        &[
            "admin.address: 0.0.0.0 is not a loopback address: tokens and status cross the network in cleartext",
        ],
    );
}

/// G12, A4: without buckets the embedded demo bucket starts, which is open to every client that can reach the address
#[test]
fn the_open_demo_bucket_warns_beyond_loopback() {
    for address in ["0.0.0.0", "::"] {
        let open = || Gateway::builder().set("server.address", address);
        let words = [
            &format!("server.address: {address} is not a loopback address"),
            "`demo`",
            "without authentication",
        ];
        warns(open, &words);
        assert!(check(open()).stdout.contains("valid: 0 buckets (the embedded `demo` starts), 1 warning"));
        let start = open().argument("--strict").run();
        assert_eq!((start.code, start.stdout.as_str()), (Some(78), ""), "{}", start.stderr);
    }
    let near = check(Gateway::builder().argument("--strict"));
    assert_eq!(
        (near.code, near.stderr.as_str(), near.stdout.as_str()),
        (Some(0), "", "the configuration is valid: 0 buckets (the embedded `demo` starts)\n")
    );
    let served = bucket().set("server.address", "0.0.0.0");
    assert_eq!(check(served.argument("--strict")).code, Some(0));
}

/// G12, X1: memory limits that never take effect, take effect at once, or exceed the machine's memory warn
#[test]
fn unsuitable_memory_limits_warn() {
    for (key, value, words) in [
        ("monitor.memory_limit_bytes", "1MiB", "1048576 bytes are fewer than an idle process uses"),
        ("monitor.memory_limit_bytes", "1024TiB", "that the cgroup or the host gives"),
        ("server.buffer_budget", "64K", "65536 bytes are too few"),
        ("server.buffer_budget", "1TiB", "1099511627776 bytes are more than the memory limit"),
    ] {
        warns(|| bucket().set(key, value), &[&format!("{key}: "), words]);
    }
    let both = || bucket().set("monitor.memory_limit_bytes", "64MiB").set("server.buffer_budget", "65MiB");
    warns(both, &["server.buffer_budget: 68157440 bytes are more than the memory limit (67108864)"]);
    let fits = bucket().set("monitor.memory_limit_bytes", "64MiB").set("server.buffer_budget", "16MiB");
    assert_eq!(check(fits.argument("--strict")).code, Some(0));
}

/// G12, O1: a word that is no log output
#[test]
fn a_bare_word_as_the_output_of_the_log_warns() {
    for word in ["-", "none", "syslog", "file"] {
        let words = [format!("log.output: \"{word}\" is used as a file"), "stdout or stderr".to_owned()];
        warns(|| bucket().set("log.output", word), &words.each_ref().map(String::as_str));
    }
}

/// G12, L3
#[test]
fn trusting_everybody_warns() {
    warns(
        || bucket().set("server.trusted_proxies", "0.0.0.0/0"),
        &["server.trusted_proxies: 0.0.0.0/0 allows every"],
    );
}

/// G12, L1
#[test]
fn a_limit_that_never_acts_warns() {
    let both = || {
        bucket()
            .set("rate_limit.global.requests_per_second", "100")
            .set("rate_limit.per_ip.requests_per_second", "200")
    };
    warns(both, &["rate_limit.per_ip.requests_per_second: 200 has no effect: rate_limit.global"]);
}

/// G12, A1
#[test]
fn a_key_that_has_expired_warns() {
    let key = || {
        bucket()
            .set("buckets.b.auth", "sigv4")
            .set("keys.k.access_key_id", "K")
            .set("keys.k.secret", "0123456789")
            .set("keys.k.expires", "2020-01-01T00:00:00Z")
            .set("keys.k.policy", "p")
            .set("policies.p.buckets", "b")
            .set("policies.p.methods", "read")
    };
    warns(key, &["keys.k.expires: has passed"]);
}

/// G12, P8: a name that does not resolve
#[test]
fn a_name_that_does_not_resolve_warns() {
    let named =
        || bucket().set("buckets.b.s3.endpoints", "http://store.invalid:9000").set("dns.timeout", "2s");
    warns(named, &["buckets.b.s3.endpoints: store.invalid does not resolve"]);
    let local = check(bucket().set("buckets.b.s3.endpoints", "http://localhost:9000"));
    assert_eq!((local.code, local.stderr.as_str()), (Some(0), ""), "localhost resolves");
}

/// C5, G12: a configuration file that other users can read
#[test]
fn an_open_file_with_a_secret_warns() {
    let file = "[buckets.b]\nauth = [\"anonymous\"]\n[buckets.b.s3]\nendpoints = [\"http://127.0.0.1:9000\"]\n\
                access_key_id = \"A\"\nsecret_access_key = \"hunter2\"\n";
    let ExitReport { code, stderr, .. } = check(Gateway::builder().config(file));
    let expected = "warning: buckets.b.s3.secret_access_key: is a secret, and its file can be read by other users (mode 0644)";
    assert!(code == Some(0) && stderr.starts_with(expected) && !stderr.contains("hunter2"), "{stderr}");
    let strict = Gateway::builder().config(file).argument("--strict").run();
    assert_eq!((strict.code, strict.stdout.as_str()), (Some(78), ""), "a start fails: {}", strict.stderr);
}

/// G12: `check` opens the files that a start would open, and fails as the start would
#[test]
fn check_opens_the_files_that_a_start_would() {
    let directory = Scratch::new();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authorities = file("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let key_set = file("jwks.json", "{}");
    let tls = || {
        bucket()
            .set("buckets.b.s3.endpoints", "https://localhost:9")
            .set("buckets.b.s3.tls.ca_file", &authorities)
    };
    let tokens = || {
        bucket()
            .set("jwt.issuer", "i")
            .set("jwt.audience", "a")
            .set("jwt.jwks_file", &key_set)
            .set("buckets.b.auth", "jwt")
    };
    for (builder, expected) in [(&tls as &dyn Fn() -> Builder, "tls.ca_file"), (&tokens, "jwks.json")] {
        let (checked, started) = (check(builder()), builder().run());
        assert_eq!((checked.code, started.code), (Some(78), Some(78)), "{checked:?}\n{started:?}");
        assert!(checked.stderr.contains(expected), "{}", checked.stderr);
        assert_eq!(checked.stderr, started.stderr);
    }
}

/// G12: a start with `--strict` fails on a warning; without it, it logs the warning and serves
#[tokio::test]
async fn a_start_logs_warnings_and_fails_on_them_if_strict() {
    let upstream = Upstream::ok("x");
    let built = || Gateway::builder().bucket("b", &upstream).set("admin.chaos", "yes");
    let gateway = built().start().await;
    let line = gateway.wait_for_log_line("configuration warning", |line| line["key"] == "admin.chaos").await;
    assert_eq!((&line["level"], &line["source"]), (&"WARNING".into(), &"from TIDEGATE_ADMIN__CHAOS".into()));
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let ended = built().argument("--strict").run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(78), ""));
    assert!(
        ended.stderr.contains("admin.chaos: is on") && ended.stderr.contains("--strict"),
        "{}",
        ended.stderr
    );
    let sound = Gateway::builder().bucket("b", &upstream).argument("--strict").start().await;
    assert_eq!(sound.get("/b/k").await.complete_status(), 200);
}

/// G1: the log can be written to standard error
#[test]
fn the_log_can_go_to_stderr() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = bucket().set("admin.chaos", "on").set("log.output", "stderr").set("server.port", &port).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(69), ""));
    let line = ended.stderr.lines().find(|line| line.contains("configuration warning")).unwrap();
    assert!(line.starts_with('{') && line.contains("admin.chaos"), "{line}");
    drop(taken);
}
