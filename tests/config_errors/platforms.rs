//! Effects of platforms on the configuration: variables that Kubernetes sets, and file modes of mounted secrets.

use std::os::unix::fs::PermissionsExt as _;

use super::{bucket, check, refused};
use crate::support::gateway::Builder;
use crate::support::{Gateway, Scratch, Upstream};

/// The variables that Kubernetes sets for a Service `tidegate` with a port `http`, and for one called `tidegate-admin`.
const LINKS: [(&str, &str); 11] = [
    ("TIDEGATE_PORT", "tcp://10.96.0.7:8080"),
    ("TIDEGATE_SERVICE_HOST", "10.96.0.7"),
    ("TIDEGATE_SERVICE_PORT", "8080"),
    ("TIDEGATE_SERVICE_PORT_HTTP", "8080"),
    ("TIDEGATE_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
    ("TIDEGATE_PORT_8080_TCP_PROTO", "tcp"),
    ("TIDEGATE_PORT_8080_TCP_PORT", "8080"),
    ("TIDEGATE_PORT_8080_TCP_ADDR", "10.96.0.7"),
    ("TIDEGATE_ADMIN_PORT", "tcp://10.96.0.8:8090"),
    ("TIDEGATE_ADMIN_SERVICE_HOST", "10.96.0.8"),
    ("TIDEGATE_ADMIN_SERVICE_PORT", "8090"),
];

fn linked(builder: Builder) -> Builder {
    LINKS.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

/// G1: the variables of a Service are ignored with one log line, also with `--strict`
#[tokio::test]
async fn variables_of_a_service_are_ignored_with_one_line() {
    let upstream = Upstream::ok("x");
    let gateway = linked(Gateway::builder().bucket("b", &upstream)).argument("--strict").start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let line = gateway.wait_for_log_line("configuration note", |_| true).await;
    assert!(line["detail"].as_str().unwrap().starts_with("11 variables that Kubernetes set"), "{line}");
    let of_them = gateway.log_lines().into_iter().filter(|line| line["msg"] == "configuration note");
    assert_eq!(of_them.count(), 1);
    let ended = check(linked(bucket()));
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(0), 1), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("note: environment: "), "{}", ended.stderr);
}

/// G1: variables that only resemble them are refused
#[test]
fn similar_variables_are_refused() {
    for (name, value) in [
        ("TIDEGATE_PORT", "8080"),
        ("TIDEGATE_ADMIN_PORT", "8090"),
        ("TIDEGATE_SERVICE_PORT", "8080"),
        ("TIDEGATE_SERVICE_HOST", "store.test"),
        ("TIDEGATE_PORT_8080_TCP_PORT", "8081"),
        ("TIDEGATE_SERVER__PORT", "tcp://10.96.0.7:8080"),
    ] {
        refused(bucket().env(name, value), &[name]);
    }
}

/// G1, C5: `check` and the start fail without blocking if the configuration or a secret is a FIFO or a directory
#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let directory = Scratch::new();
    let fifo = directory.path().join("fifo.toml");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    for (path, kind) in [(fifo.as_path(), "a FIFO"), (directory.path(), "a directory")] {
        let path = path.to_str().unwrap();
        let expected = format!("cannot be read: it is not a regular file but {kind}");
        let secret = || {
            bucket().set("buckets.b.s3.access_key_id", "A").set("buckets.b.s3.secret_access_key_file", path)
        };
        let config = || bucket().argument("--config").argument(path);
        for builder in [&secret as &dyn Fn() -> Builder, &config] {
            refused(builder(), &[&expected]);
            let started = builder().run();
            assert_eq!(started.code, Some(78), "{}", started.stderr);
            assert!(started.stderr.contains(&expected), "{}", started.stderr);
        }
    }
}

/// C5: on an ordinary disk a world-readable secret is refused, and the error names each platform's remedy; mounts are
/// tested in tests/mounts
#[test]
fn a_readable_secret_names_each_platforms_remedy() {
    let directory = Scratch::new();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    for mode in [0o644, 0o444, 0o646] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let builder = bucket()
            .set("buckets.b.s3.access_key_id", "A")
            .set("buckets.b.s3.secret_access_key_file", secret.to_str().unwrap());
        let shown = format!("(mode {mode:04o})");
        match mode {
            0o646 => refused(builder, &["can be written by other users", &shown, "chmod 600"]),
            _ => refused(
                builder,
                &["can be read by other users", &shown, "chmod 600", "Kubernetes", "Docker and Compose"],
            ),
        }
    }
}
