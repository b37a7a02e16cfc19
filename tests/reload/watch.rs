//! `reload.watch`: changed content of the files is found without a command.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{apply, file_of, text, write};
use crate::support::{Gateway, Upstream};

const REFUSED: &str = "configuration refused, the one before it stays in use";

/// Puts a version of the configuration behind the link, as Kubernetes does for a ConfigMap.
fn publish(directory: &Path, version: &str, text: &str) {
    fs::create_dir(directory.join(version)).unwrap();
    write(&directory.join(version).join("tidegate.toml"), text, 0o644);
    symlink(version, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

/// G3: a replaced link of a ConfigMap is found, each problem of the new content is one log line, and the old configuration stays
#[tokio::test]
async fn a_replaced_link_is_found() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().set("reload.watch", "true").set("reload.interval", "1");
    let mounted = builder.directory().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let secret = builder.directory().join("secret");
    write(&secret, "a-secret-of-a-key", 0o600);
    let text = text(&upstream, &secret);
    publish(&mounted, "..2026_01", &text);
    let file = mounted.join("tidegate.toml");
    symlink("..data/tidegate.toml", &file).unwrap();
    let gateway = builder.argument("--config").argument(file.to_str().unwrap()).start().await;

    publish(&mounted, "..2026_02", &format!("{text}[server]\nkeep_alive = \"soon\"\n"));
    let line = gateway.wait_for_log_line(REFUSED, |line| line["key"] == "server.keep_alive").await;
    assert_eq!((line["line"].as_u64(), line["level"].as_str()), (Some(13), Some("ERROR")), "{line}");
    publish(&mounted, "..2026_03", &format!("{text}[server]\naddress = \"127.0.0.2\"\n"));
    gateway.wait_for_log_line(REFUSED, |line| line["key"] == "server.address").await;
    // a file that the configuration names
    publish(&mounted, "..2026_04", &text);
    fs::remove_file(&secret).unwrap();
    gateway.wait_for_log_line(REFUSED, |line| line["key"] == "keys.uploader.secret_file").await;
    assert_eq!(gateway.get("/photos/k").await.complete_status(), 200);
}

/// G3: a reload switches the watch on, with the files that the new configuration names, and off
#[tokio::test]
async fn the_watch_changes() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder();
    let [secret, other] = ["secret", "other"].map(|name| builder.directory().join(name));
    write(&secret, "a-secret-of-a-key", 0o600);
    write(&other, "a-secret-of-another-key", 0o600);
    let first = text(&upstream, &secret);
    let watched = format!(
        "{first}[keys.other]\npolicy = \"all\"\nsecret_file = {other:?}\n[reload]\nwatch = true\ninterval = 1\n"
    );
    let gateway = builder.config(&first).start().await;
    apply(&gateway, &watched).await;
    let reloaded = async |number: u64| {
        gateway.wait_for_log_line("configuration reloaded", |line| line["configuration"] == number).await
    };
    write(&other, "a-second-secret-of-another-key", 0o600);
    reloaded(3).await;
    write(&file_of(&gateway), &format!("{watched}[server]\nkeep_alive = 7\n"), 0o600);
    reloaded(4).await;
    // written by the watch, and then it is off
    write(&file_of(&gateway), &first, 0o600);
    reloaded(5).await;
    assert_eq!(apply(&gateway, &watched).await["configuration"], 6);
}
