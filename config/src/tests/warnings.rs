//! Settings that defeat or hide each other (G12), and the configurations that must not warn.

use std::collections::BTreeSet;

use super::{DEMO, lines, toml_examples};
use crate::*;

pub(super) fn warned(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let sources = Sources::default().text("t.toml", text).environment(variables.iter().copied());
    let loaded = load_with_warnings(sources).unwrap_or_else(|problems| panic!("{problems}\nin {text}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// A bucket that is open and lacks nothing.
pub(super) const OPEN: &str =
    "buckets.b.auth = [\"anonymous\"]\nbuckets.b.s3.endpoints = [\"http://store:9000\"]\n";

/// The head of a file, then the one warning that it gives.
pub(super) const WARNINGS: &[(&str, &str)] = &[
    (
        "buckets.b.s3.concurrency.max_concurrent = 1024\nbuckets.b.s3.connection_pool.size = 20\n\
         server.max_concurrent_requests = 2000",
        "buckets.b.s3.connection_pool.size: 20 is below buckets.b.s3.concurrency.max_concurrent (1024, from t.toml): only \
         20 requests run at a time (from t.toml); raise it to 1024, or remove it: the default follows max_concurrent",
    ),
    (
        "server.max_concurrent_requests = 100\nbuckets.b.s3.concurrency.max_concurrent = 101",
        "server.max_concurrent_requests: 100 is below buckets.b.s3.concurrency.max_concurrent (101, from t.toml): requests are \
         refused before that limit is reached (from t.toml); raise it, or lower the limit of the bucket",
    ),
    (
        "server.max_concurrent_requests = 10",
        "server.max_concurrent_requests: 10 is below buckets.b.s3.concurrency.max_concurrent (50, default): requests are \
         refused before that limit is reached (from t.toml); raise it, or lower the limit of the bucket",
    ),
    (
        "buckets.b.s3.concurrency.max_queued = 960",
        "buckets.b.s3.concurrency.max_queued: 960 and buckets.b.s3.concurrency.max_concurrent (50, default) are together above \
         server.max_concurrent_requests (1000, default): requests are refused before the queue is full (from t.toml); lower \
         it, or raise server.max_concurrent_requests",
    ),
    (
        "buckets.b.s3.timeout = 31",
        "buckets.b.s3.timeout: 31 s is above server.request_timeout (30 s, default), which ends earlier (from t.toml); lower it, \
         or raise server.request_timeout",
    ),
    (
        "server.request_timeout = 10",
        "server.request_timeout: 10 s is below buckets.b.s3.timeout (20 s, default): a slow first attempt leaves no time for a \
         second (from t.toml); raise it, or lower the timeout",
    ),
    (
        "server.request_timeout = \"1m\"\nserver.drain_timeout = \"10s\"",
        "server.drain_timeout: 10 s is below server.request_timeout (60 s, from t.toml): a stop can abort requests (from \
         t.toml); raise it",
    ),
    (
        "buckets.b.s3.long_operation_timeout = 10",
        "buckets.b.s3.long_operation_timeout: has no effect: it is not above buckets.b.s3.timeout (20 s, default) (from \
         t.toml); raise it, or remove it",
    ),
    (
        "server.send_buffer = \"1M\"\nserver.send_buffer_per_connection = \"2M\"",
        "server.send_buffer_per_connection: \"2MiB\" is above server.send_buffer (\"1MiB\", from t.toml), which all connections \
         share (from t.toml); lower it, or raise server.send_buffer",
    ),
    (
        "monitor.memory_limit_bytes = \"31MiB\"",
        "monitor.memory_limit_bytes: 32505856 bytes are fewer than an idle process uses, about 33554432: the level is \
         high from the start (from t.toml); raise it, or remove it",
    ),
    (
        "server.buffer_budget = 1048575",
        "server.buffer_budget: 1048575 bytes are too few for the growth of one transfer's buffers (from t.toml); set at least \
         1048576, or 0 to turn growth off",
    ),
    (
        "log.output = \"syslog\"",
        "log.output: \"syslog\" is used as a file in the working directory (from t.toml); use stdout or stderr, or \
         ./syslog for the file",
    ),
    (
        "log.output = \"-\"",
        "log.output: \"-\" is used as a file in the working directory (from t.toml); use stdout or stderr, or ./- for the file",
    ),
    (
        "concurrency.max_per_client = 1000",
        "concurrency.max_per_client: 1000 has no effect: it is not below server.max_concurrent_requests (1000, default) (from t.toml); lower \
         it",
    ),
    (
        "admin.chaos = true",
        "admin.chaos: is on: every client of the admin listener can crash actors and requests (from t.toml); set it \
         to false except for drills",
    ),
    (
        "admin.address = \"0.0.0.0\"\nadmin.token = \"0123456789abcdef0123456789abcdef\"",
        "admin.address: 0.0.0.0 is not a loopback address: tokens and status cross the network in cleartext (from t.toml); \
         set admin.tls.certificate_file and its private key, or let only trusted networks reach it",
    ),
    (
        "server.trusted_proxies = [\"10.0.0.0/8\", \"::/0\"]",
        "server.trusted_proxies: ::/0 allows every client to set its own address (from t.toml); list only the \
         networks of your proxies",
    ),
    (
        "buckets.b.s3.circuit_breaker.mode = \"forced_open\"",
        "buckets.b.s3.circuit_breaker.mode: is forced_open: every request is refused with 503 (from t.toml)",
    ),
    (
        "buckets.c.s3.endpoints = [\"http://store\"]",
        "buckets.c.auth: is empty: the bucket refuses every request (not set); set buckets.c.auth to [\"sigv4\"] for \
         client keys, or to [\"anonymous\"] for all clients",
    ),
    (
        "buckets.c = { auth = [\"sigv4\"], s3.endpoints = [\"http://store\"] }",
        "buckets.c.auth: lists only sigv4, and no client key is defined: the bucket refuses every request (from t.toml); \
         define one with keys.ID.secret and keys.ID.policy",
    ),
    (
        "buckets.c = { auth = [\"sigv2\", \"sigv4\"], s3.endpoints = [\"http://store\"] }",
        "buckets.c.auth: lists only sigv4, and no client key is defined: the bucket refuses every request (from t.toml); \
         define one with keys.ID.secret and keys.ID.policy",
    ),
    (
        "buckets.c = { auth = [\"api_key\"], s3.endpoints = [\"http://store\"] }",
        "buckets.c.auth: lists only api_key, and no API key is defined: the bucket refuses every request (from \
         t.toml); define one with api_keys.NAME.secret and api_keys.NAME.policy",
    ),
    (
        "buckets.c = { auth = [\"api_key\", \"sigv4\"], s3.endpoints = [\"http://store\"] }",
        "buckets.c.auth: lists sigv4 and api_key, and no key is defined: the bucket refuses every request (from \
         t.toml); define keys with keys.ID or api_keys.NAME",
    ),
    (
        "buckets.c = { auth = [\"sigv4\", \"anonymous\"], s3.endpoints = [\"http://store\"] }",
        "buckets.c.auth: lists anonymous, which allows all operations, so the other methods have no effect (from t.toml); \
         set buckets.c.anonymous to the operations of anonymous clients, such as [\"read\"]",
    ),
    (
        "policies.p = { buckets = [\"*\"], methods = [\"read\"] }\n\
         api_keys.k = { secret = \"0123456789abcdef\", policy = \"p\" }",
        "api_keys: has no effect: no bucket lists api_key in its auth (from t.toml); add api_key to buckets.NAME.auth",
    ),
    (
        "buckets.c = { auth = [\"anonymous\"], s3.endpoints = [\"http://127.0.0.1:8080\"] }",
        "buckets.c.s3.endpoints: http://127.0.0.1:8080 is the gateway's own data listener (from t.toml); set it to \
         the store, or set server.port to another port",
    ),
    (
        "rate_limit.global.requests_per_second = 100\nrate_limit.per_ip.requests_per_second = 200",
        "rate_limit.per_ip.requests_per_second: 200 has no effect: rate_limit.global.requests_per_second (100, from t.toml) \
         and rate_limit.global.burst (100, default) refuse first (from t.toml); lower it, or raise the global limit",
    ),
    (
        "rate_limit.global.requests_per_second = 100\nbuckets.b.rate_limit.requests_per_second = 100",
        "buckets.b.rate_limit.requests_per_second: 100 has no effect: rate_limit.global.requests_per_second (100, from t.toml) \
         and rate_limit.global.burst (100, default) refuse first (from t.toml); lower it, or raise the global limit",
    ),
    (
        "buckets.x = { pattern = \"logs-*\", auth = [\"anonymous\"], s3.endpoints = [\"http://store\"] }\n\
         buckets.y = { pattern = \"*-audit\", auth = [\"anonymous\"], s3.endpoints = [\"http://store\"] }",
        "buckets.x.pattern: \"logs-*\" and \"*-audit\" of buckets.y match the same names, which go to buckets.y: its \
         pattern has more literal characters (from t.toml)",
    ),
    (
        "buckets.x = { pattern = \"a-*\", auth = [\"anonymous\"], s3.endpoints = [\"http://store\"] }\n\
         buckets.y = { pattern = \"*-z\", auth = [\"anonymous\"], s3.endpoints = [\"http://store\"] }",
        "buckets.y.pattern: \"*-z\" and \"a-*\" of buckets.x match the same names, which go to buckets.x: its name is \
         first in alphabetical order (from t.toml)",
    ),
];

/// G12
#[test]
fn each_setting_without_effect_gives_one_line() {
    for (head, expected) in WARNINGS {
        assert_eq!(warned(&format!("{head}\n{OPEN}"), &[]), [*expected], "{head}");
    }
}

/// G12: no false alarm
#[test]
fn sound_configurations_give_no_warning() {
    assert_eq!(warned("", &[]), [""; 0]);
    for head in [
        "",
        "buckets.b.s3.concurrency.max_concurrent = 1000",
        "buckets.b.s3.connection_pool.size = 20",
        "buckets.b.s3.concurrency.max_queued = 950",
        "server.request_timeout = 20",
        "server.drain_timeout = 5",
        "rate_limit.global = { requests_per_second = 100, mode = \"shadow\" }\n\
         rate_limit.per_ip.requests_per_second = 200",
        "rate_limit.global = { requests_per_second = 100, burst = 500 }\n\
         rate_limit.per_ip = { requests_per_second = 100, burst = 100 }",
        "rate_limit.per_ip.requests_per_second = 200",
        "monitor.memory_limit_bytes = \"32MiB\"",
        "server.buffer_budget = 0",
        "server.buffer_budget = \"1MiB\"",
        "log.output = \"./syslog\"",
        "log.output = \"tidegate.log\"",
        "log.output = \"STDERR\"",
        // an exact name within a glob, and a catch-all
        "buckets.x = { pattern = \"b*\", auth = [\"anonymous\"], s3.endpoints = [\"http://store\"] }\n\
         buckets.y = { pattern = \"*\", auth = [\"anonymous\"], s3.endpoints = [\"http://store\"] }\n\
         buckets.z = { pattern = \"c*\", auth = [\"anonymous\"], s3.endpoints = [\"http://store\"] }",
        "buckets.c = { auth = [\"sigv4\", \"anonymous\"], anonymous = [\"read\"], s3.endpoints = [\"http://store\"] }",
        "admin.address = \"::1\"",
        "admin.token = \"0123456789abcdef0123456789abcdef\"",
        "server.trusted_proxies = [\"10.0.0.0/8\"]",
        "buckets.b.s3.endpoints = [\"http://127.0.0.1:9000\"]\nserver.port = 0",
    ] {
        let text =
            if head.contains("buckets.b.s3.endpoints") { "buckets.b.auth = [\"anonymous\"]\n" } else { OPEN };
        assert_eq!(warned(&format!("{head}\n{text}"), &[]), [""; 0], "{head}");
    }
}

/// G12: an unset pool size does not lower the concurrency limit
#[test]
fn the_default_pool_size_follows_the_concurrency_limit() {
    let pool = |keys: &str| {
        let config = load(Sources::default().text("t.toml", format!("{keys}\n{OPEN}"))).unwrap();
        let pool = config.buckets["b"].upstream.connection_pool.clone();
        (pool.size.get(), pool.max_idle)
    };
    assert_eq!(pool(""), (50, 10));
    assert_eq!(pool("buckets.b.s3.concurrency.max_concurrent = 1024"), (1024, 10));
    assert_eq!(pool("buckets.b.s3.concurrency.max_concurrent = 7"), (50, 10));
    assert_eq!(
        pool("buckets.b.s3.concurrency.max_concurrent = 90\nbuckets.b.s3.connection_pool.max_idle = 80"),
        (90, 80)
    );
    assert_eq!(
        pool("buckets.b.s3.concurrency.max_concurrent = 90\nbuckets.b.s3.connection_pool.size = 60"),
        (60, 10)
    );
}

const POLICY: &str = "[policies.p]\nbuckets = [\"b\"]\nmethods = [\"read\"]\n\
                      [buckets.b]\nauth = [\"sigv4\"]\ns3.endpoints = [\"http://store\"]\n";

/// G12: a variable spells its key in capitals, whatever the ID is
#[test]
fn a_key_that_only_variables_name_has_both_spellings() {
    let pair = [("TIDEGATE_KEYS__AKIAXYZ__SECRET", "0123456789"), ("TIDEGATE_KEYS__AKIAXYZ__POLICY", "p")];
    let sources = || Sources::default().text("t.toml", POLICY);
    let Loaded { config, warnings, .. } = load_with_warnings(sources().environment(pair)).unwrap();
    let key = &config.keys["akiaxyz"];
    assert_eq!((&*key.access_key_id, key.access_key_id_in_capitals.as_deref()), ("akiaxyz", Some("AKIAXYZ")));
    let text: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "keys.akiaxyz.access_key_id: the name of a variable does not show whether the ID is akiaxyz or AKIAXYZ: \
             both are accepted (not set); set keys.akiaxyz.access_key_id to the right one"
        ]
    );
    let explicit = [pair[0], pair[1], ("TIDEGATE_KEYS__AKIAXYZ__ACCESS_KEY_ID", "AKIAXYZ")];
    let Loaded { config, warnings, .. } = load_with_warnings(sources().environment(explicit)).unwrap();
    assert_eq!(config.keys["akiaxyz"].access_key_id_in_capitals, None);
    assert_eq!(warnings.iter().count(), 0);
    let in_file = format!("{POLICY}[keys.app]\npolicy = \"p\"\n");
    let secret = [("TIDEGATE_KEYS__APP__SECRET", "0123456789")];
    assert_eq!(warned(&in_file, &secret), [""; 0], "the file gives the spelling");
}

/// G12
#[test]
fn two_keys_that_differ_in_case_only_are_refused() {
    let in_file = format!("{POLICY}[keys.AKIAXYZ]\npolicy = \"p\"\n");
    let variable = [("TIDEGATE_KEYS__AKIAXYZ__SECRET", "0123456789")];
    let found = lines(load(Sources::default().text("t.toml", in_file).environment(variable)));
    let expected = "keys.akiaxyz: has the same access key ID as keys.AKIAXYZ, in another case (from \
                    TIDEGATE_KEYS__AKIAXYZ__SECRET); give each key its own ID; the name of an environment variable \
                    gives an ID in lower case";
    assert!(found.iter().any(|line| line == expected), "{found:?}");
}

/// G1: what Kubernetes makes for a Service of this name is ignored with one line
#[test]
fn service_links_are_noted_and_ignored() {
    let links = [
        ("TIDEGATE_PORT", "tcp://10.96.0.7:8080"),
        ("TIDEGATE_SERVICE_HOST", "10.96.0.7"),
        ("TIDEGATE_SERVICE_PORT", "8080"),
        ("TIDEGATE_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
        ("TIDEGATE_PORT_8080_TCP_ADDR", "10.96.0.7"),
    ];
    let Loaded { config, warnings, .. } = load_with_warnings(Sources::default().environment(links)).unwrap();
    assert_eq!(config, Config::default());
    let notes: Vec<_> = warnings.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        ["environment: 5 variables that Kubernetes set for a Service ignored (from TIDEGATE_PORT); \
             enableServiceLinks: false in the pod turns them off"]
    );
    assert_eq!(warnings.iter().count(), 0, "no error with --strict");
    let found = lines(load(Sources::default().environment([("TIDEGATE_PORT", "8080")])));
    assert_eq!(found, ["port: unknown key (from TIDEGATE_PORT); did you mean TIDEGATE_SERVER__PORT?"]);
}

/// G12, C5: a secret must not be in a file that others can read
#[test]
fn a_secret_in_a_file_that_others_can_read_causes_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = std::env::temp_dir().join(format!("tidegate-open-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("t.toml");
    let warnings = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load_with_warnings(Sources::default().file(&path)).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let secret =
        format!("{OPEN}buckets.b.s3.access_key_id = \"A\"\nbuckets.b.s3.secret_access_key = \"hunter2\"\n");
    let open = warnings(&secret, 0o644);
    let found = [warnings(&secret, 0o640), warnings(OPEN, 0o644)];
    let writable = warnings(OPEN, 0o666);
    std::fs::remove_dir_all(&directory).unwrap();
    let expected = "buckets.b.s3.secret_access_key: is a secret, and its file can be read by other users (mode 0644) (from ";
    assert!(open.len() == 1 && open[0].starts_with(expected) && open[0].contains("chmod 600"), "{open:?}");
    assert!(!open[0].contains("hunter2"));
    assert_eq!(found, [[""; 0], [""; 0]]);
    assert!(
        writable.len() == 1 && writable[0].contains("can be written by other users (mode 0666)"),
        "{writable:?}"
    );
}

/// G12: the examples of the documents and the reference file cause no warning
#[test]
fn the_examples_of_the_documents_give_no_warning() {
    // the README's example repeats sections of the pages: a section is read once
    let mut sections = BTreeSet::new();
    let mut is_new = |block: &String| {
        let headers: Vec<_> = block.lines().filter(|line| line.starts_with('[')).map(str::to_owned).collect();
        let is_new = headers.iter().all(|header| !sections.contains(header));
        sections.extend(headers);
        is_new
    };
    let text: String = toml_examples().into_iter().filter(|block| is_new(block)).collect();
    assert!(text.contains("[keys.uploader]") && text.contains("[buckets.models]"), "{text}");
    // these files are not on this machine, and without them the admin listener may not have its address
    let left_out = [
        "certificate_file",
        "private_key_file",
        "value_file",
        "token_file",
        "read_token_file",
        "address = \"0.0.0.0\"",
    ];
    let text: String = text
        .lines()
        .filter(|line| !left_out.iter().any(|key| line.starts_with(key)))
        .flat_map(|line| [line, "\n"])
        .collect();
    let secrets = [
        ("TIDEGATE_BUCKETS__PHOTOS__S3__SECRET_ACCESS_KEY", "0123456789"),
        ("TIDEGATE_KEYS__UPLOADER__SECRET", "0123456789"),
        ("TIDEGATE_KEYS__ARCHIVIST__SECRET", "0123456789"),
        ("TIDEGATE_API_KEYS__APP__SECRET", "0123456789abcdef"),
        ("TIDEGATE_API_KEYS__WORKER__SECRET", "fedcba9876543210"),
        ("TIDEGATE_BUCKETS__MODELS__HTTP__CREDENTIALS__FIRST__VALUE", "a"),
        ("TIDEGATE_BUCKETS__MODELS__HTTP__CREDENTIALS__SECOND__VALUE", "b"),
    ];
    assert_eq!(warned(&text, &secrets), [""; 0]);
    assert_eq!(warned(include_str!("../../default.toml"), &[]), [""; 0]);
    let variables = [
        ("TIDEGATE_SERVER__PORT", "9000"),
        ("TIDEGATE_BUCKETS__PHOTOS__PATTERN", "my-photos"),
        ("TIDEGATE_BUCKETS__PHOTOS__AUTH", "anonymous"),
        ("TIDEGATE_BUCKETS__PHOTOS__S3__ENDPOINTS", "http://10.0.0.11:9000,http://10.0.0.12:9000"),
    ];
    assert_eq!(warned("", &variables), [""; 0]);
    assert_eq!(warned(DEMO, &[]).len(), 1, "a bucket without auth warns");
}
