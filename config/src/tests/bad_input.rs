//! Invalid configurations, and the one line of error for each.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::{DEMO, from_toml, from_variables, lines};
use crate::*;

/// One wrong variable each: name, value, the line without its key and origin.
const VARIABLES: &[(&str, &str, &str, &str)] = &[
    ("SERVER__PORT", "99999", "server.port: 99999 is out of range 0–65535", ""),
    ("SERVER__PORT", "-1", "server.port: -1 is out of range 0–65535", ""),
    ("SERVER__PORT", "http", "server.port: \"http\" is not a whole number", ""),
    ("SERVER__PORT", "", "server.port: \"\" is not a whole number", ""),
    (
        "SERVER__ADDRESS",
        "localhost",
        "server.address: \"localhost\" is not an IP address",
        "use an address such as 127.0.0.1, 0.0.0.0 or ::",
    ),
    (
        "SERVER__REQUEST_TIMEOUT",
        "soon",
        "server.request_timeout: \"soon\" is not a duration",
        "write seconds, or a number with a unit such as 500ms, 30s, 1m30s or 1h",
    ),
    ("SERVER__REQUEST_TIMEOUT", "0", "server.request_timeout: 0 is out of range 0.001–86400 s", ""),
    ("SERVER__KEEP_ALIVE", "NaN", "server.keep_alive: NaN is out of range 0–86400 s", ""),
    (
        "SERVER__MAX_CONCURRENT_REQUESTS",
        "0",
        "server.max_concurrent_requests: 0 is out of range 1–1000000",
        "",
    ),
    (
        "SERVER__TRUSTED_PROXIES",
        "10.0.0.0/8,10.0.0/8",
        "server.trusted_proxies: \"10.0.0/8\" does not begin with an IP address",
        "use a network such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32",
    ),
    (
        "SERVER__TRUSTED_PROXIES",
        "::1/129",
        "server.trusted_proxies: \"::1/129\" needs a prefix length from 0 to 128",
        "use a network such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32",
    ),
    (
        "SERVER__TRUSTED_PROXIES",
        "10.0.0.7/8",
        "server.trusted_proxies: \"10.0.0.7/8\" has bits beyond its prefix",
        "did you mean 10.0.0.0/8?",
    ),
    (
        "SERVER__PROXY_PROTOCOL",
        "true",
        "server.proxy_protocol: has no effect: server.trusted_proxies is empty",
        "list the networks of the proxies in server.trusted_proxies",
    ),
    (
        "SERVER__CLIENT_ADDRESS_HEADER",
        "x-real-ip",
        "server.client_address_header: \"x-real-ip\" is not one of x-forwarded-for, forwarded, cf-connecting-ip",
        "",
    ),
    (
        "SERVER__LIMITS__MAX_REQUEST_SIZE",
        "64 apples",
        "server.limits.max_request_size: \"64 apples\" is not a size",
        "write bytes, or a number with a unit such as 64MiB, 512Mi, 10M or 100MB",
    ),
    (
        "SERVER__LIMITS__MAX_HEADER_SIZE",
        "2MiB",
        "server.limits.max_header_size: 2MiB is out of range 256 B–1MiB",
        "",
    ),
    ("SERVER__LIMITS__MAX_HEADERS", "91", "server.limits.max_headers: 91 is out of range 1–90", ""),
    (
        "ADMIN__HOSTS",
        "metrics.test:8090",
        "admin.hosts: \"metrics.test:8090\" is not a domain name",
        "use a name such as s3.example.com, without a port",
    ),
    ("LOG__REDACT", "a b", "log.redact: has whitespace or control characters", ""),
    (
        "ADMIN__CHAOS",
        "maybe",
        "admin.chaos: \"maybe\" is neither true nor false",
        "write one of true, yes, on, 1, or one of false, no, off, 0",
    ),
    ("LOG__FORMAT", "jsno", "log.format: \"jsno\" is not one of auto, json, terminal", ""),
    ("LOG__LEVEL", "loud", "log.level: \"loud\" is not one of error, warn, info, debug, trace", ""),
    (
        "RATE_LIMIT__ON_FAILURE",
        "refuses",
        "rate_limit.on_failure: \"refuses\" is not one of refuse, pass",
        "did you mean refuse?",
    ),
    (
        "RATE_LIMIT__GLOBAL__BURST",
        "5",
        "rate_limit.global.burst: has no effect without rate_limit.global.requests_per_second",
        "set rate_limit.global.requests_per_second too",
    ),
    (
        "RATE_LIMIT__GLOBAL__REQUESTS_PER_SECOND",
        "0",
        "rate_limit.global.requests_per_second: 0 is out of range 0.001–10000000",
        "",
    ),
    ("MONITOR__CRITICAL", "80", "monitor.critical: 80 must be above monitor.warning (80)", ""),
    ("MONITOR__RECOVER", "85", "monitor.recover: 85 must be at most monitor.warning (80)", ""),
    ("MONITOR__EXHAUSTED", "101", "monitor.exhausted: 101 is out of range 1–100 %", ""),
    (
        "ADMIN__PORT",
        "8080",
        "admin.port: 8080 is also the port of the data listener",
        "set admin.port or server.port to another",
    ),
    ("SERVER", "x", "server: is a section, not a value", ""),
    ("SERVER__PRT", "1", "server.prt: unknown key", "did you mean TIDEGATE_SERVER__PORT?"),
    ("SERVER_PORT", "1", "server_port: unknown key", "did you mean TIDEGATE_SERVER__PORT?"),
    ("PORT", "1", "port: unknown key", "did you mean TIDEGATE_SERVER__PORT?"),
    ("ZEBRA", "1", "zebra: unknown key", ""),
    ("SERVER__TIMEOUT", "1", "server.timeout: unknown key", "did you mean TIDEGATE_SERVER__REQUEST_TIMEOUT?"),
    (
        "SERVER__MAX_HEADER_SIZE",
        "1",
        "server.max_header_size: unknown key",
        "did you mean TIDEGATE_SERVER__LIMITS__MAX_HEADER_SIZE?",
    ),
    (
        "BUCKETS_PHOTOS_AUTH",
        "x",
        "buckets_photos_auth: unknown key",
        "did you mean TIDEGATE_BUCKETS__PHOTOS__AUTH?",
    ),
    (
        "BUCKETS_MY_PHOTOS_S3_SECRET_ACCESS_KEY",
        "x",
        "buckets_my_photos_s3_secret_access_key: unknown key",
        "did you mean TIDEGATE_BUCKETS__MY_PHOTOS__S3__SECRET_ACCESS_KEY?",
    ),
    (
        "BUCKETS__PHOTOS_AUTH",
        "x",
        "buckets.photos_auth: is a section, not a value",
        "did you mean TIDEGATE_BUCKETS__PHOTOS__AUTH?",
    ),
    (
        "SERVER__LIMITS_MAX_HEADERS",
        "x",
        "server.limits_max_headers: unknown key",
        "did you mean TIDEGATE_SERVER__LIMITS__MAX_HEADERS?",
    ),
    (
        "RATE_LIMIT__PERIP__BURST",
        "1",
        "rate_limit.perip.burst: unknown key",
        "did you mean TIDEGATE_RATE_LIMIT__PER_IP__BURST?",
    ),
    (
        "RATE_LIMIT__IP__REQUESTS_PER_SECOND",
        "1",
        "rate_limit.ip.requests_per_second: unknown key",
        "did you mean TIDEGATE_RATE_LIMIT__PER_IP__REQUESTS_PER_SECOND?",
    ),
    ("MONITOR__WARNING", "0.8", "monitor.warning: \"0.8\" is not a whole number, 1–100 %", ""),
    ("MONITOR__EXHAUSTED", "80%", "monitor.exhausted: \"80%\" is not a whole number, 1–100 %", ""),
    (
        "LOG__REDACT",
        "[\"a\", \"b\"]",
        "log.redact: has brackets",
        "in a variable, commas separate the items: a,b,c",
    ),
    (
        "SERVER__DRAIN_DELAY_SECONDS",
        "5",
        "server.drain_delay_seconds: unknown key",
        "did you mean TIDEGATE_SERVER__DRAIN_DELAY?",
    ),
    (
        "MONITOR__INTERVAL_MS_MAX",
        "5",
        "monitor.interval_ms_max: unknown key",
        "did you mean TIDEGATE_MONITOR__INTERVAL_MS?",
    ),
    (
        "CONFIG_FILE",
        "t.toml",
        "config_file: unknown key",
        "set TIDEGATE_CONFIG or the argument --config to the path of the file",
    ),
    ("STRICT", "1", "strict: unknown key", "use the argument --strict"),
    (
        "BUCKET__PHOTOS__AUTH",
        "x",
        "bucket.photos.auth: unknown key",
        "did you mean TIDEGATE_BUCKETS__PHOTOS__AUTH?",
    ),
];

/// G1
#[test]
fn each_wrong_variable_gives_one_line_with_key_origin_and_hint() {
    for (name, value, complaint, hint) in VARIABLES {
        let name = format!("TIDEGATE_{name}");
        let remedy = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        let expected = format!("{complaint} (from {name}){remedy}");
        assert_eq!(lines(from_variables(&[(&name, value)])), [expected]);
    }
}

/// G1
#[test]
fn a_variable_in_lower_case_is_refused_with_a_hint() {
    let found =
        lines(from_variables(&[("tidegate_keys__k__secret", "hunter2"), ("Tidegate_Server__Port", "1")]));
    assert_eq!(
        found,
        [
            "keys.k.secret: names of variables are in upper case (from tidegate_keys__k__secret); did you mean \
             TIDEGATE_KEYS__K__SECRET?",
            "server.port: names of variables are in upper case (from Tidegate_Server__Port); did you mean \
             TIDEGATE_SERVER__PORT?",
        ]
    );
    assert!(from_variables(&[("tidegat", "x"), ("tidegatex_y", "x")]).is_ok(), "another program's");
}

/// G1
#[test]
fn all_problems_are_reported_at_once() {
    let text = "[server]\nport = 70000\nprt = 1\n[monitor]\nwarning = 95\n[buckets.demo]\nauth = [\"jwts\", \"x\"]\n";
    let sources = Sources::default().text("t.toml", text).environment([("TIDEGATE_LOG__LEVEL", "loud")]);
    let problems = load(sources).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "server.prt",
        "server.port",
        "log.level",
        "monitor.warning",
        "buckets.demo.auth",
        "buckets.demo.auth",
        "buckets.demo.s3.endpoints",
    ];
    assert_eq!(keys, expected);
    assert_eq!(problems.to_string().lines().count(), expected.len());
    let log = problems.iter().find(|problem| problem.key == "log.level").unwrap();
    assert_eq!(log.source, Origin::Variable("TIDEGATE_LOG__LEVEL".to_owned()));
}

#[test]
fn an_invalid_value_causes_no_second_problem_of_order() {
    let found = lines(from_toml("[monitor]\nwarning = \"x\"\ncritical = 70\n"));
    assert_eq!(found, ["monitor.warning: \"x\" is not a whole number, 1–100 % (from t.toml)"]);
}

#[test]
fn two_variables_for_one_key_are_rejected() {
    let found = lines(from_variables(&[("TIDEGATE_SERVER__PORT", "1"), ("TIDEGATE_Server__Port", "2")]));
    assert_eq!(found, ["server.port: is also set by TIDEGATE_SERVER__PORT (from TIDEGATE_Server__Port)"]);
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    let value = OsString::from_vec(vec![0xff]);
    let found = lines(load(Sources::default().environment([("TIDEGATE_SERVER__PORT", value)])));
    assert_eq!(found, ["server.port: is not UTF-8 text (from TIDEGATE_SERVER__PORT)"]);
}

#[test]
fn unreadable_files_are_reported_with_their_origin() {
    let missing = "/nonexistent/t.toml";
    let message = format!("{missing}: cannot be read: no such file");
    let found = lines(load(Sources::default().file(missing)));
    assert_eq!(found, [format!("{message} (from --config)")]);
    let found = lines(from_variables(&[("TIDEGATE_CONFIG", missing)]));
    assert_eq!(found, [format!("{message} (from TIDEGATE_CONFIG)")]);
    let found = lines(load(Sources::default().text("t.json", "{}")));
    assert_eq!(
        found,
        ["t.json: has an unknown format (from t.json); use the extension .toml, .yaml or .yml"]
    );
}

/// C4: the errors of the parsers quote the line
#[test]
fn parse_errors_give_the_line_number_and_not_its_text() {
    let toml = "[server]\n[buckets.b.s3]\nsecret_access_key = \"hunter2\nregion = \"x\"\n";
    let yaml = "buckets:\n  b:\n    secret_access_key: \"hunter2\n  x: [\n";
    let in_toml = lines(from_toml(toml));
    let in_yaml = lines(load(Sources::default().text("t.yaml", yaml)));
    assert!(in_toml[0].starts_with("t.toml: cannot be parsed: line 3: "), "{in_toml:?}");
    assert!(in_yaml[0].starts_with("t.yaml: cannot be parsed: "), "{in_yaml:?}");
    for line in in_toml.iter().chain(&in_yaml) {
        assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
    }
}

/// C4
#[test]
fn a_wrong_credential_is_not_repeated() {
    for text in
        ["secret_access_key = \"hunter2 x\"", "secret_access_key = 0x5ec2e7", "access_key_id = \"hunter2 x\""]
    {
        let found = lines(from_toml(&format!("{DEMO}{text}\n")));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|line| !line.contains("hunter2") && !line.contains("6210279")), "{found:?}");
    }
}

#[cfg(not(feature = "bench"))]
#[test]
fn released_builds_have_no_key_to_turn_guards_off() {
    let expected =
        "guards: unknown key (from TIDEGATE_GUARDS); only builds with the cargo feature bench have this key";
    assert_eq!(lines(from_variables(&[("TIDEGATE_GUARDS", "false")])), [expected]);
}

/// G1: chaos needs an address that no other machine reaches
#[test]
fn chaos_is_refused_on_other_than_loopback_addresses() {
    for address in ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1"] {
        let line = lines(from_toml(&format!("[admin]\nchaos = true\naddress = \"{address}\""))).join("\n");
        assert!(
            line.contains("admin.chaos: needs a loopback address, and") && line.contains("admin.address"),
            "{line}"
        );
    }
    for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
        assert!(from_toml(&format!("[admin]\nchaos = true\naddress = \"{address}\"")).is_ok(), "{address}");
    }
}
