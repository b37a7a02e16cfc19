//! Log outputs that fail or change: a full device, a deleted file, stderr.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use super::log_cause;
use crate::support::{Gateway, Upstream, wait_for};

/// A gateway with a log file in its directory.
async fn into_file(upstream: &Upstream) -> (Gateway, PathBuf) {
    let builder = Gateway::builder().bucket("b", upstream);
    let file = builder.directory().join("log");
    let gateway = builder.set("log.output", file.to_str().unwrap()).start_with_log_file(&file).await;
    (gateway, file)
}

fn has_request(file: &PathBuf, id: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| serde_json::from_str::<Value>(line).unwrap()["id"] == id)
}

async fn send_request(gateway: &Gateway, id: &str) {
    let headers = [("x-request-id", id)];
    let answer = crate::support::request(gateway.address(), "GET", "/b/k", &headers, None).await;
    assert_eq!(answer.complete_status(), 200);
}

/// X12, O1: a full disk is reported once on stderr, counted, and a cause in the status; requests are served
#[tokio::test]
async fn a_full_disk_is_reported() {
    let upstream = Upstream::ok("x");
    let (gateway, file) = into_file(&upstream).await;
    std::fs::remove_file(&file).unwrap();
    symlink("/dev/full", &file).unwrap();
    for at in 0..5 {
        send_request(&gateway, &format!("lost-{at}")).await;
    }
    let cause = log_cause(&gateway, "disk_full").await;
    assert!(cause["message"].as_str().unwrap().contains("No space left on device"), "{cause}");
    wait_for("the lines are counted", || async {
        (gateway.metric("log_lines_lost_total{cause=\"disk_full\"}").await >= 5.0).then_some(())
    })
    .await;
    assert!(gateway.metric("log_write_failures_total{cause=\"disk_full\"}").await >= 1.0);
    let messages = || gateway.stderr().matches("the log cannot be written (disk_full)").count();
    wait_for("stderr has the message", || async { (messages() > 0).then_some(()) }).await;
    for at in 0..5 {
        send_request(&gateway, &format!("more-{at}")).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(messages(), 1, "{}", gateway.stderr());
    assert_eq!(gateway.admin("/readyz").await.complete_status(), 200);
}

/// X12: a deleted log file is created and opened again automatically
#[tokio::test]
async fn a_deleted_file_is_opened_again() {
    let upstream = Upstream::ok("x");
    let (gateway, file) = into_file(&upstream).await;
    send_request(&gateway, "before").await;
    wait_for("the first file has the line", || async { has_request(&file, "before").then_some(()) }).await;
    std::fs::remove_file(&file).unwrap();
    send_request(&gateway, "after").await;
    wait_for("a new file has the next line", || async { has_request(&file, "after").then_some(()) }).await;
    assert_eq!(gateway.status().await["status"], "ok");
}

/// G1, X12: `log.output = "stderr"` writes nothing to stdout
#[tokio::test]
async fn the_log_goes_to_stderr() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("log.output", "stderr").spawn();
    wait_for("it listens", || async { gateway.stderr().contains("\"listening\"").then_some(()) }).await;
    assert!(gateway.raw_log().is_empty());
}
