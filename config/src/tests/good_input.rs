//! What sources are taken to mean.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{DEMO, from_toml, from_variables};
use crate::*;

#[test]
fn no_sources_give_the_documented_defaults() {
    let config = load(Sources::default()).unwrap();
    assert_eq!(config, Config::default());
    assert!(config.buckets.is_empty());
    assert_eq!((config.server.port, config.admin.port), (8080, 8090));
    assert_eq!(config.server.address, IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(config.server.limits.max_request_size, None);
    assert_eq!(config.supervision.window, Duration::from_secs(10));
    assert_eq!(config.rate_limit.global, None);
    assert_eq!(config.monitor, MonitorConfig::default());
}

/// G1
#[test]
fn variables_have_precedence_over_the_file_and_the_file_over_defaults() {
    let text = "[server]\nport = 1000\nworkers = 3\n";
    let sources = Sources::default().text("t.toml", text).environment([("TIDEGATE_SERVER__PORT", "0")]);
    let server = load(sources).unwrap().server;
    assert_eq!((server.port, server.workers, server.keep_alive), (0, 3, Duration::from_secs(75)));
}

/// G1
#[test]
fn a_bucket_can_be_set_by_variables_alone() {
    let config = from_variables(&[
        ("PATH", "/bin"),
        ("TIDEGATE_BUCKETS__DEMO__RATE_LIMIT__REQUESTS_PER_SECOND", "5"),
        ("TIDEGATE_BUCKETS__DEMO__S3__ENDPOINTS", "http://a:1, http://b:2"),
        ("TIDEGATE_BUCKETS__DEMO__AUTH", "anonymous"),
        ("TIDEGATE_BUCKETS__DEMO__PATTERN", "my-photos"),
        ("TIDEGATE_BUCKETS__DEMO__S3__ACCESS_KEY_ID", "0123"),
        ("TIDEGATE_BUCKETS__DEMO__S3__SECRET_ACCESS_KEY", "0456"),
    ])
    .unwrap();
    let demo = &config.buckets["demo"];
    assert_eq!(demo.kind, Kind::S3);
    assert_eq!(demo.auth, [AuthMethod::Anonymous]);
    assert!(demo.pattern.matches("my-photos") && !demo.pattern.matches("demo"));
    let limit = demo.rate_limit.unwrap();
    assert_eq!((limit.requests_per_second, limit.burst.get()), (5.0, 5));
    let authorities: Vec<_> = demo.upstream.endpoints.iter().map(|e| e.authority.as_str()).collect();
    assert_eq!(authorities, ["a:1", "b:2"]);
    let credentials = demo.upstream.credentials.clone().unwrap();
    assert_eq!(
        (credentials.access_key_id.as_str(), credentials.secret_access_key.expose()),
        ("0123", "0456")
    );
}

#[test]
fn a_list_replaces_a_list() {
    let variable = ("TIDEGATE_BUCKETS__DEMO__S3__ENDPOINTS", "http://other");
    let config = load(Sources::default().text("t.toml", DEMO).environment([variable])).unwrap();
    let hosts: Vec<_> = config.buckets["demo"].upstream.endpoints.iter().map(|e| e.host.as_str()).collect();
    assert_eq!(hosts, ["other"]);
}

#[test]
fn yaml_and_toml_are_equivalent() {
    let yaml = "server:\n  port: 0\n  request_timeout: 0.5\nmonitor:\nbuckets:\n  demo:\n    auth: [anonymous]\n    \
                s3:\n      endpoints:\n        - http://store:9000\n";
    let toml = "[server]\nport = 0\nrequest_timeout = 0.5\n[buckets.demo]\nauth = [\"anonymous\"]\n\
                [buckets.demo.s3]\nendpoints = [\"http://store:9000\"]\n";
    let from_yaml = load(Sources::default().text("t.yml", yaml)).unwrap();
    assert_eq!(from_yaml, from_toml(toml).unwrap());
    assert_eq!(from_yaml.server.request_timeout, Duration::from_millis(500));
}

#[test]
fn a_bucket_without_an_auth_entry_is_closed() {
    assert!(from_toml(DEMO).unwrap().buckets["demo"].auth.is_empty());
}

#[test]
fn names_and_patterns_accept_all_bucket_names() {
    let text = "[buckets.\"my.bucket-1_X\"]\npattern = \"logs-*\"\ns3 = { endpoints = [\"http://a\"] }\n";
    let config = from_toml(text).unwrap();
    assert_eq!(config.buckets["my.bucket-1_X"].pattern, Pattern::parse("logs-*").unwrap());
}

#[test]
fn sections_patterns_and_upstream_names_may_have_a_tenant() {
    let text = "[buckets.\"acme:photos\"]\ns3 = { endpoints = [\"http://a\"] }\n\
                [buckets.all]\npattern = \"acme:*\"\ns3 = { endpoints = [\"http://a\"], bucket = \":one\" }\n";
    let config = from_toml(text).unwrap();
    assert!(config.buckets["acme:photos"].pattern.matches("acme:photos"));
    assert_eq!(config.buckets["all"].upstream.bucket.as_deref(), Some(":one"));
}

#[test]
fn an_endpoint_may_have_a_path_and_sni_may_be_the_host() {
    let text = "[buckets.a]\ns3 = { endpoints = [\"https://h/storage/v1/s3/\"], failover.endpoints = [\"https://i/s3\"] }\n\
                [buckets.b]\ns3 = { endpoints = [\"https://h\"], addressing = \"virtual\", tls.sni = \"host\" }\n";
    let config = from_toml(text).unwrap();
    let upstream = |name: &str| &config.buckets[name].upstream;
    let prefixes: Vec<&str> = upstream("a").endpoints.iter().map(|one| one.path_prefix.as_str()).collect();
    assert_eq!(prefixes, ["/storage/v1/s3", "/s3"]);
    assert_eq!((upstream("a").sni, upstream("b").sni), (Sni::Endpoint, Sni::Host));
}

#[test]
fn sizes_accept_units_and_unlimited() {
    for (text, bytes) in [
        ("1000", Some(1000)),
        ("\"64MiB\"", Some(64 << 20)),
        ("\"100MB\"", Some(100_000_000)),
        ("\"7 kib\"", Some(7168)),
        ("\"12B\"", Some(12)),
        ("\"unlimited\"", None),
    ] {
        let config = from_toml(&format!("server.limits.max_request_size = {text}\n{DEMO}")).unwrap();
        assert_eq!(config.server.limits.max_request_size, Some(bytes), "{text}");
        assert_eq!(config.buckets["demo"].max_request_size, bytes, "{text}");
    }
    let own = format!("{DEMO}[buckets.demo]\nmax_request_size = \"unlimited\"\n");
    assert_eq!(from_toml(&own).unwrap().buckets["demo"].max_request_size, None);
}

/// V2: the default differs by kind; a value of the server section applies to both kinds; a bucket's own value takes precedence
#[test]
fn the_largest_body_depends_on_the_kind_unless_it_is_set() {
    let buckets = "[buckets.store]\ns3.endpoints = [\"http://a\"]\n[buckets.api]\nkind = \"http\"\nhttp.endpoints = [\"http://a\"]\n";
    let sizes = |before: &str, after: &str| {
        let config = from_toml(&format!("{before}{buckets}{after}")).unwrap();
        (config.buckets["store"].max_request_size, config.buckets["api"].max_request_size)
    };
    assert_eq!(sizes("", ""), (Some(5 << 30), Some(100 << 20)));
    assert_eq!(sizes("server.limits.max_request_size = 7\n", ""), (Some(7), Some(7)));
    assert_eq!(sizes("server.limits.max_request_size = \"unlimited\"\n", ""), (None, None));
    assert_eq!(sizes("server.limits.max_request_size = 7\n", "max_request_size = 9\n"), (Some(7), Some(9)));
    assert_eq!(sizes("", "max_request_size = \"unlimited\"\n"), (Some(5 << 30), None));
}

/// G1: words in any case
#[test]
fn words_are_accepted_in_any_case_and_usual_spelling() {
    for (name, value) in [
        ("LOG__LEVEL", "INFO"),
        ("LOG__LEVEL", "Warning"),
        ("LOG__FORMAT", "JSON"),
        ("LOG__OUTPUT", "stderr"),
        ("ADMIN__CHAOS", "yes"),
        ("ADMIN__CHAOS", "On"),
        ("LOG__ACCESS", "no"),
        ("LOG__ACCESS", "off"),
        ("LOG__ACCESS", "0"),
        ("SERVER__REQUEST_TIMEOUT", "1m"),
        ("SERVER__LIMITS__MAX_REQUEST_SIZE", "512Mi"),
        ("SERVER__LIMITS__MAX_REQUEST_SIZE", "Unlimited"),
        ("MONITOR__INTERVAL_MS", "500ms"),
        ("MONITOR__MEMORY_LIMIT_BYTES", "1.5GiB"),
    ] {
        let name = format!("TIDEGATE_{name}");
        let read = from_variables(&[(&name, value)]);
        assert!(read.is_ok(), "{name}={value}: {read:?}");
    }
    let config = from_variables(&[
        ("TIDEGATE_LOG__LEVEL", "DEBUG"),
        ("TIDEGATE_LOG__OUTPUT", "stderr"),
        ("TIDEGATE_MONITOR__INTERVAL_MS", "500ms"),
        ("TIDEGATE_MONITOR__MEMORY_LIMIT_BYTES", "1.5GiB"),
    ])
    .unwrap();
    assert_eq!((config.log.level, config.log.output), (LogLevel::Debug, LogOutput::Stderr));
    assert_eq!(config.monitor.interval, Duration::from_millis(500));
    assert_eq!(config.monitor.memory_limit_bytes, Some(3 << 29));
}

const TWO_KINDS: &str = "[buckets.a.s3]\nendpoints = [\"http://a\"]\n[buckets.b]\nkind = \"http\"\n\
                         [buckets.b.http]\nendpoints = [\"http://b/v1/\"]\n";

/// T1, V2
#[test]
fn kinds_differ_in_what_they_inherit_until_it_is_set() {
    let unset = from_toml(TWO_KINDS).unwrap();
    let of = |config: &Config, name: &str| {
        let bucket = &config.buckets[name];
        (bucket.upstream.request_timeout.as_secs(), bucket.max_uri_length)
    };
    assert_eq!((of(&unset, "a"), of(&unset, "b")), ((30, 8192), (60, 2048)));
    assert_eq!(unset.buckets["b"].upstream.endpoints[0].path_prefix, "/v1");
    let set = format!("server.request_timeout = 30\nserver.limits.max_uri_length = 100\n{TWO_KINDS}");
    let set = from_toml(&set).unwrap();
    assert_eq!((of(&set, "a"), of(&set, "b")), ((30, 100), (30, 100)));
}

#[test]
fn unset_bounds_follow_the_ones_that_are_set() {
    let text =
        format!("monitor.warning = 50\n{DEMO}retry.initial_backoff_ms = 2000\nconnection_pool.size = 4\n");
    let config = from_toml(&text).unwrap();
    assert_eq!(config.monitor.recover, 50);
    let upstream = &config.buckets["demo"].upstream;
    assert_eq!(upstream.retry.max_backoff, Duration::from_secs(2));
    assert_eq!(upstream.connection_pool.max_idle, 4);
}

#[test]
fn a_slow_rate_has_a_burst_of_one() {
    let config = from_toml("rate_limit.per_ip.requests_per_second = 0.5\n").unwrap();
    let limit = config.rate_limit.per_ip.unwrap();
    assert_eq!((limit.requests_per_second, limit.burst.get()), (0.5, 1));
}

#[test]
fn the_argument_has_precedence_over_the_variable() {
    let directory = std::env::temp_dir().join(format!("tidegate-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let [by_argument, by_variable] = ["a.toml", "v.toml"].map(|name| directory.join(name));
    fs::write(&by_argument, "server.port = 1\n").unwrap();
    fs::write(&by_variable, "server.port = 2\n").unwrap();
    let variable = [("TIDEGATE_CONFIG", by_variable.as_os_str())];
    let both = load(Sources::default().file(&by_argument).environment(variable));
    let variable_only = load(Sources::default().environment(variable));
    let empty = load(Sources::default().environment([("TIDEGATE_CONFIG", "")]));
    fs::remove_dir_all(&directory).unwrap();
    let ports = [both, variable_only, empty].map(|config| config.unwrap().server.port);
    assert_eq!(ports, [1, 2, 8080]);
}

#[test]
fn the_demo_bucket_is_open_and_signed() {
    let mut config = Config::default();
    config.add_demo(9999, "key", Secret::new("secret"));
    let demo = &config.buckets["demo"];
    assert_eq!(demo.auth, [AuthMethod::Anonymous]);
    assert!(demo.pattern.matches("demo") && demo.pattern.matches("another"));
    assert!(demo.is_embedded);
    assert_eq!(demo.upstream.endpoints, [Endpoint::loopback(9999)]);
    assert_eq!(demo.upstream.credentials.as_ref().unwrap().secret_access_key.expose(), "secret");
    assert!(!format!("{config:?}").contains("\"secret\""));
}

#[cfg(feature = "bench")]
#[test]
fn bench_builds_can_turn_guards_off() {
    assert!(Config::default().guards);
    assert!(!from_variables(&[("TIDEGATE_GUARDS", "false")]).unwrap().guards);
}
