//! The effective configuration: its keys, values and origins, the file that it gives, and the secrets that it does not show.

use std::collections::BTreeSet;
use std::io::Write as _;

use super::warnings::{OPEN, WARNINGS};
use crate::*;

/// A configuration with every kind of section and value. Long and unusual texts show that no value is cut or misspelt.
const FULL: &str = r#"
server.port = 9000
server.request_timeout = "1m30s"
server.trusted_proxies = ["10.0.0.0/8"]
server.limits.max_request_size = "unlimited"
monitor.warning = 70
log.output = "/tmp/a directory with a very long name, so that an error message would cut it/\u0007\"'\\.log"
rate_limit.global.requests_per_second = 12.5
rate_limit.cost.list = 3

[buckets.photos]
auth = ["sigv4", "sigv2", "jwt", "anonymous"]
client_regions = ["eu-central-1"]
cors.allowed_origins = ["https://app.example.com"]
rate_limit.requests_per_second = 100
rate_limit.cost.write = 2
[buckets.photos.s3]
endpoints = ["https://store:9000/prefix"]
timeout = 400
health_check.path = "/minio/health/live"
circuit_breaker.hold_ms = 500
concurrency = { max_concurrent = 2, max_queued = 7, adaptive.enabled = true, overload = "codel" }
connection_pool.receive_buffer = "1MiB"

[buckets."acme:models"]
kind = "http"
auth = ["api_key"]
http.endpoints = ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]
http.health_check.path = "/ready?token=hunter3"
http.failover.endpoints = ["http://127.0.0.1:9003"]
http.credentials.first.quota_group = "one"

[keys.uploader]
policy = "all"
expires = 2031-01-31T18:00:00Z
priority = "low"
[api_keys.app]
policy = "all"
rate_limit = { requests_per_second = 5, burst = 50, mode = "shadow" }
[policies.all]
buckets = ["photos", "acme:*"]
prefixes = ["a/\"quoted\"\\b/", "éè/"]
methods = ["read", "write"]
[jwt]
issuer = "me"
audience = ["you"]
"#;

const SECRETS: [(&str, &str); 5] = [
    ("TIDEGATE_KEYS__UPLOADER__SECRET", "hunter2-hunter2"),
    ("TIDEGATE_API_KEYS__APP__SECRET", "hunter4-hunter4-hunter4"),
    ("TIDEGATE_BUCKETS__ACME:MODELS__HTTP__CREDENTIALS__FIRST__VALUE", "Bearer hunter5"),
    ("TIDEGATE_JWT__SECRET", "hunter6-hunter6-hunter6-hunter6-hunter6"),
    ("TIDEGATE_BUCKETS__PHOTOS__S3__SECRET_ACCESS_KEY", "hunter7"),
];
/// Beside the secrets.
const PLAIN: (&str, &str) = ("TIDEGATE_BUCKETS__PHOTOS__S3__ACCESS_KEY_ID", "ID");

fn full() -> String {
    FULL.replace("2031-01-31T18:00:00Z", "\"2031-01-31T18:00:00Z\"")
}

fn loaded(text: &str, variables: &[(&str, &str)]) -> Loaded {
    let sources = Sources::default().text("t.toml", text).environment(variables.iter().copied());
    load_with_warnings(sources).unwrap_or_else(|problems| panic!("{problems}\nin {text}"))
}

fn full_loaded() -> Loaded {
    let variables: Vec<_> = SECRETS.into_iter().chain([PLAIN]).collect();
    loaded(&full(), &variables)
}

fn file_of(loaded: &Loaded, origins: bool) -> String {
    EffectiveConfig::text(&loaded.effective.select(&[]).unwrap(), origins, |_| Vec::new())
}

fn key(loaded: &Loaded, name: &str) -> EffectiveKey {
    loaded.effective.keys().find(|key| key.key == name).unwrap_or_else(|| panic!("{name}"))
}

fn toml(value: &str) -> EffectiveValue {
    EffectiveValue::Toml(value.to_owned())
}

/// G1: the effective configuration has the keys of the reference, each once
#[test]
fn the_keys_are_those_of_the_reference() {
    let text = "[buckets.NAME.s3]\nendpoints = [\"http://a\"]\ncredentials.NAME = {access_key_id = \"A\", \
                secret_access_key = \"B\"}\n[buckets.h]\nkind = \"http\"\npattern = \"h\"\n\
                http = {endpoints = [\"http://a\"], credentials.NAME.value = \"x\"}\n\
                [keys.NAME]\nsecret = \"0123456789\"\npolicy = \"NAME\"\n\
                [api_keys.NAME]\nsecret = \"0123456789abcdef\"\npolicy = \"NAME\"\n\
                [policies.NAME]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n";
    let loaded = loaded(text, &[]);
    let listed: Vec<String> = loaded.effective.keys().map(|key| key.key).collect();
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "a key is listed twice");
    assert!(
        !listed.iter().any(|key| key.starts_with("buckets.NAME.http") || key.starts_with("buckets.h.s3"))
    );
    let named: BTreeSet<String> =
        listed.iter().map(|key| key.replace("buckets.h.", "buckets.NAME.")).collect();
    let known: BTreeSet<String> = reference::keys().iter().map(ToString::to_string).collect();
    assert_eq!(named, known);
    for key in loaded.effective.keys() {
        assert!(!key.about().is_empty() && !key.accepts.is_empty(), "{}", key.key);
        assert!(key.default.is_some() || key.default_text.is_some(), "{}", key.key);
    }
}

/// G1: the file that it gives has the same effect, except for the secrets
#[test]
fn the_file_gives_the_same_configuration() {
    let full = full_loaded();
    // a path with a hidden query is not in the file
    let hidden = [("TIDEGATE_BUCKETS__ACME:MODELS__HTTP__HEALTH_CHECK__PATH", "/ready?token=hunter3")];
    let variables: Vec<_> = SECRETS.into_iter().chain(hidden).collect();
    for origins in [false, true] {
        let text = file_of(&full, origins);
        let again = loaded(&text, &variables);
        assert_eq!(again.config, full.config, "{text}");
        let values = |loaded: &Loaded| -> Vec<(String, EffectiveValue)> {
            loaded.effective.keys().map(|key| (key.key.clone(), key.value.clone())).collect()
        };
        assert_eq!(values(&again), values(&full));
        assert_eq!(file_of(&again, false), file_of(&full, false), "a second file is the same");
    }
}

/// G1: the same for the defaults, and for settings that contradict each other
#[test]
fn the_file_of_any_configuration_gives_it_again() {
    let default = loaded("", &[]);
    let again = loaded(&file_of(&default, false), &[]);
    assert_eq!(again.config, Config::default());
    assert_eq!(again.warnings.iter().count(), 0, "defaults that are written out cause no warning");
    let mut checked = 0;
    // The file has no secrets, and without them these configurations are others.
    let is_whole = |text: &str| !text.contains("secret") && !text.contains("token = ");
    for (text, _) in WARNINGS.iter().filter(|(text, _)| is_whole(text)) {
        let first = loaded(&format!("{OPEN}{text}"), &[]);
        let again = loaded(&file_of(&first, false), &[]);
        assert_eq!(again.config, first.config, "{text}");
        let keys = |loaded: &Loaded| loaded.warnings.iter().map(|one| one.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&again), keys(&first), "{text}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

/// G1: each value has its origin: a default, a file with the line, or a variable
#[test]
fn each_key_has_its_origin() {
    let text = "[server]\nport = 9000\n\nlimits = { max_headers = 7 }\n[buckets.\"a.b\"]\ns3.endpoints = [\n\"http://a\",\n]\n\
                s3.retry.max_attempts = 2\n";
    let loaded = loaded(text, &[("TIDEGATE_LOG__LEVEL", "debug")]);
    let file = Origin::File("t.toml".into());
    for (name, origin, line) in [
        ("server.port", &file, Some(2)),
        ("server.limits.max_headers", &file, Some(4)),
        ("buckets.\"a.b\".s3.endpoints", &file, Some(6)),
        ("buckets.\"a.b\".s3.retry.max_attempts", &file, Some(9)),
        ("log.level", &Origin::Variable("TIDEGATE_LOG__LEVEL".to_owned()), None),
        ("log.format", &Origin::Default, None),
    ] {
        let key = key(&loaded, name);
        assert_eq!(
            (&key.origin, key.line, key.is_default()),
            (origin, line, *origin == Origin::Default),
            "{name}"
        );
    }
    let text = file_of(&loaded, true);
    for line in [
        "server.port = 9000 # from t.toml, line 2",
        "log.level = \"debug\" # from TIDEGATE_LOG__LEVEL",
        "log.format = \"auto\" # default",
        "server.header_timeout = 5 # s; default",
        "# timeout for a client to send the head of a request",
        "# accepts: 0.001–3600 s; default: 5",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nin {text}");
    }
    let yaml = Sources::default().text("t.yaml", "server:\n  port: 9000\n");
    let loaded = load_with_warnings(yaml).unwrap();
    assert_eq!(key(&loaded, "server.port").line, None, "the parser of YAML gives no lines");
}

/// G1: a value is the one in effect: adjusted to other keys, or inherited
#[test]
fn values_are_those_in_effect() {
    let loaded = full_loaded();
    for (name, value) in [
        ("server.request_timeout", "90"),
        ("monitor.recover", "70"),
        ("rate_limit.global.burst", "12"),
        ("buckets.photos.pattern", "\"photos\""),
        ("buckets.photos.max_request_size", "\"unlimited\""),
        ("buckets.photos.anonymous", "[\"read\", \"write\", \"delete\", \"list\", \"configure\"]"),
        ("buckets.photos.rate_limit.cost.list", "3"),
        ("buckets.photos.rate_limit.cost.write", "2"),
        ("buckets.photos.s3.long_operation_timeout", "400"),
        ("buckets.photos.s3.concurrency.adaptive.min", "2"),
        ("buckets.photos.s3.connection_pool.size", "50"),
        ("buckets.photos.forwarded", "\"drop\""),
        ("buckets.\"acme:models\".forwarded", "\"set\""),
        ("keys.uploader.access_key_id", "\"uploader\""),
    ] {
        assert_eq!(key(&loaded, name).value, toml(value), "{name}");
    }
    let buffer = key(&loaded, "buckets.photos.s3.connection_pool.receive_buffer");
    assert_eq!((buffer.literal(), buffer.unit), (Some(Literal::Integer(1 << 20)), Some("bytes")));
    assert_eq!(buffer.default_literal(), Some(Literal::Text("auto".to_owned())));
    let bucket = "buckets.b = { auth = [\"anonymous\"], s3.endpoints = [\"http://a\"] }\n";
    let short = super::effective::loaded(&format!("{bucket}server.request_timeout = 0.5"), &[]);
    assert_eq!(key(&short, "buckets.b.s3.concurrency.queue_timeout_ms").value, toml("500"));
}

/// C4: no secret is shown
#[test]
fn secrets_are_hidden() {
    let loaded = full_loaded();
    let all = format!("{}{:?}", file_of(&loaded, true), loaded.effective);
    assert!(!all.contains("hunter"), "{all}");
    for (name, shown) in [
        ("keys.uploader.secret", "(set)"),
        ("keys.uploader.session_token", "(not set)"),
        ("jwt.secret", "(set)"),
        ("buckets.\"acme:models\".http.health_check.path", "/ready?(hidden)"),
    ] {
        assert_eq!(key(&loaded, name).value, EffectiveValue::Hidden(shown.to_owned()), "{name}");
        assert_eq!(key(&loaded, name).literal(), None, "{name}");
    }
    assert_eq!(SECRETS.len(), loaded.effective.keys().filter(is_set_secret).count());
}

fn is_set_secret(key: &EffectiveKey) -> bool {
    key.value == EffectiveValue::Hidden("(set)".to_owned())
}

/// C4: of a file with a secret only the path is shown
#[test]
fn the_path_of_a_secret_file_is_shown() {
    let path = std::env::temp_dir().join(format!("tidegate-effective-{}", std::process::id()));
    let mut file = std::fs::File::create(&path).unwrap();
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    file.write_all(b"hunter2-hunter2").unwrap();
    let text = format!(
        "[keys.k]\nsecret_file = {path:?}\npolicy = \"p\"\n[policies.p]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n"
    );
    let first = loaded(&text, &[]);
    let again = loaded(&file_of(&first, false), &[]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(key(&first, "keys.k.secret_file").value, toml(&format!("{path:?}")));
    assert_eq!(again.config, first.config);
}

/// G1: keys are selected by the texts with which they begin; a text of no key is an error
#[test]
fn keys_are_selected_by_prefix() {
    let loaded = full_loaded();
    let select = |prefixes: &[&str]| {
        let prefixes: Vec<String> = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        loaded
            .effective
            .select(&prefixes)
            .map(|keys| keys.iter().map(|key| key.key.clone()).collect::<Vec<_>>())
    };
    assert_eq!(select(&["dns", "server.port"]).unwrap(), ["server.port", "dns.ttl", "dns.timeout"]);
    assert!(select(&["buckets.photos.s3."]).unwrap().len() > 50);
    assert_eq!(select(&["dns", "nothing"]), Err("nothing".to_owned()));
}
