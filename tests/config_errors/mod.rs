//! Invalid configurations: all errors at once, each with its key and source, and exit code 78. Configurations with
//! contradicting settings: a warning each, and exit code 0.

mod messages;
mod platforms;
mod value_formats;
mod warnings;

use crate::support::Gateway;
use crate::support::gateway::{Builder, ExitReport};

fn check(builder: Builder) -> ExitReport {
    builder.argument("check").run()
}

pub(crate) fn refused(builder: Builder, words: &[&str]) {
    let ExitReport { code, stdout, stderr } = check(builder);
    assert_eq!(code, Some(78), "{stdout}{stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` in {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn bucket() -> Builder {
    Gateway::builder()
        .set("buckets.b.auth", "anonymous")
        .set("buckets.b.s3.endpoints", "http://127.0.0.1:9000")
}

/// G1: `check` accepts a valid configuration, and starts nothing
#[test]
fn check_accepts_a_sound_configuration() {
    let ExitReport { code, stderr, .. } = check(bucket());
    assert_eq!((code, stderr.contains("error")), (Some(0), false), "{stderr}");
}

/// G1: all errors are reported at once, each with its key and its source; the start fails in the same way
#[test]
fn every_error_is_reported_at_once() {
    let bad = || {
        bucket()
            .env("TIDEGATE_SERVER__PORT", "99999")
            .env("TIDEGATE_SERVER__PROT", "1")
            .env("TIDEGATE_BUCKETS__B__S3__TIMEOUT", "soon")
            .config("[rate_limit.global]\nrequests_per_second = -1\n[nonsense]\nx = 1\n")
    };
    let words = [
        "server.port",
        "TIDEGATE_SERVER__PORT",
        "TIDEGATE_SERVER__PROT",
        "buckets.b.s3.timeout",
        "TIDEGATE_BUCKETS__B__S3__TIMEOUT",
        "rate_limit.global.requests_per_second",
        "nonsense",
        "tidegate.toml",
    ];
    refused(bad(), &words);
    let ExitReport { code, stdout, stderr } = bad().run();
    assert_eq!(code, Some(78), "{stderr}");
    assert!(!stdout.contains("listening"), "it started: {stdout}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` in {stderr}");
    }
}

/// G1: an unknown key or variable is an error with a hint
#[test]
fn unknown_keys_are_refused_with_a_hint() {
    refused(bucket().env("TIDEGATE_SERVER__PROT", "8080"), &["server.prot", "TIDEGATE_SERVER__PORT?"]);
    refused(
        bucket().env("TIDEGATE_SEVRER__PORT", "8080"),
        &["TIDEGATE_SEVRER__PORT", "TIDEGATE_SERVER__PORT?"],
    );
    refused(bucket().config("[server]\nprot = 8080\n"), &["server.prot", "server.port"]);
    refused(
        bucket().config("[buckets.b.s3]\nendpoint = [\"http://127.0.0.1:1\"]\n"),
        &["buckets.b.s3.endpoint", "endpoints"],
    );
}

/// G9: the error for a moved key names its new key
#[test]
fn moved_keys_name_their_new_key() {
    refused(bucket().config("[server.rate_limit.global]\nrequests_per_second = 5\n"), &["rate_limit"]);
    refused(bucket().set("buckets.b.s3.connection_pool_size", "5"), &["CONNECTION_POOL__SIZE"]);
    refused(bucket().set("buckets.b.s3.max_idle_connections", "5"), &["CONNECTION_POOL__MAX_IDLE"]);
}

/// G1, Bad input: relations between keys are checked
#[test]
fn contradictions_are_refused() {
    refused(bucket().set("monitor.warning", "95").set("monitor.critical", "90"), &["monitor"]);
    refused(bucket().set("buckets.b.s3.access_key_id", "only-half"), &["secret_access_key"]);
    refused(
        bucket().env("TIDEGATE_SERVER__PORT", "8090").env("TIDEGATE_ADMIN__PORT", "8090"),
        &["admin.port", "8090"],
    );
    refused(Gateway::builder().set("buckets.b.auth", "anonymous"), &["buckets.b.s3.endpoints"]);
}

/// G1, A4: an unknown authentication method is refused, not silently ignored
#[test]
fn an_unknown_authentication_is_refused() {
    for method in ["oidc", "apikey"] {
        refused(
            bucket().set("buckets.b.auth", method),
            &["buckets.b.auth", method, "not an authentication method"],
        );
    }
}

/// C4, Bad input: a secret in an invalid configuration is not repeated in the error
#[test]
fn secrets_are_not_repeated() {
    let builder = bucket()
        .set("buckets.b.s3.access_key_id", "id")
        .set("buckets.b.s3.secret_access_key", "hunter2-is-my-secret")
        .set("buckets.b.s3.region", "");
    let ExitReport { stdout, stderr, .. } = check(builder.set("server.workers", "many"));
    assert!(stderr.contains("server.workers"), "{stderr}");
    assert!(!stderr.contains("hunter2") && !stdout.contains("hunter2"), "{stderr}");
}

/// Bad input: a missing or unparseable file is named, with the line
#[test]
fn an_unreadable_file_is_named() {
    let missing = Gateway::builder().argument("--config").argument("nowhere.toml");
    refused(missing, &["nowhere.toml", "no such file"]);
    refused(Gateway::builder().config("[server]\nport = = 1\n"), &["tidegate.toml", "2"]);
}

/// G1: the environment overrides the file
#[tokio::test]
async fn the_environment_overrides_the_file() {
    let upstream = crate::support::Upstream::ok("x");
    let file = format!(
        "[sessions]\ncapacity = 7\n[supervision]\nmailbox_capacity = 9\n\
         [buckets.filed]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://{}\"]\n",
        upstream.address()
    );
    let gateway = Gateway::builder().config(&file).set("sessions.capacity", "8").start().await;
    let status = gateway.status().await;
    assert_eq!(status["sessions"]["capacity"], 8, "the environment");
    assert_eq!(status["actors"]["limiter"]["mailbox_capacity"], 9, "the file");
    assert_eq!(status["buckets"]["filed"]["pool"]["max_concurrent"], 50, "the default");
    assert_eq!(gateway.get("/filed/k").await.complete_status(), 200);
}

/// G1: the config file is accepted before or after the subcommand
#[test]
fn the_file_may_follow_the_subcommand() {
    for flag in ["--config", "-c"] {
        for at in [[flag, "nowhere.toml", "check"], ["check", flag, "nowhere.toml"]] {
            let builder = at.into_iter().fold(Gateway::builder(), Builder::argument);
            let ExitReport { code, stderr, .. } = builder.run();
            assert_eq!(code, Some(78), "{stderr}");
            assert!(stderr.contains("nowhere.toml: cannot be read: no such file"), "{stderr}");
        }
    }
}

/// An invalid command line has another exit code than an invalid configuration
#[test]
fn a_bad_command_line_ends_with_usage() {
    let ExitReport { code, stderr, .. } = Gateway::builder().argument("--nonsense").run();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--nonsense"), "{stderr}");
}
