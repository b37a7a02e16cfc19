//! The log of both processes: one process writes the output, so each line is there once and whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Upgradable;
use super::traffic::Load;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for, wait_until};

/// The whole lines of a file; the last may be written just now.
fn lines_of(file: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn with(lines: &[Value], message: &str) -> usize {
    lines.iter().filter(|line| line["msg"] == message).count()
}

/// How often each request is in the log.
fn requests(lines: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines.iter().filter(|line| line["msg"] == "request") {
        *counts.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

/// Upgrades twice under requests. Each request and each event of a process is then once in the log.
async fn each_line_is_once_in_the_log(mut running: Upgradable, log: impl Fn(&Gateway) -> Vec<Value>) {
    let load = Load::start(running.gateway.address());
    load.wait_for_answers(100).await;
    running.upgraded().await;
    load.wait_for_answers(100).await;
    running.wait_for_end_of_predecessor().await;
    running.upgraded().await;
    load.wait_for_answers(100).await;
    let ids = load.stop().await;
    let gateway = &running.gateway;
    wait_until("both old processes have stopped", || {
        let lines = log(gateway);
        with(&lines, "stopped") == 2 && with(&lines, "the predecessor has ended") == 2
    })
    .await;
    wait_until("each request is in the log", || requests(&log(gateway)).len() >= ids.len()).await;
    let expected: BTreeMap<_, _> = ids.into_iter().map(|id| (id, 1)).collect();
    let lines = log(gateway);
    assert!(requests(&lines) == expected, "{:?}", requests(&lines).iter().find(|(_, count)| **count != 1));
    for message in ["upgrade begins", "upgrade done: the new process serves, this one drains", "draining"] {
        assert_eq!(with(&lines, message), 2, "{message}");
    }
    assert_eq!(gateway.stderr(), "");
}

/// G11, O1: with a log file each request of both processes is once in it, and so are the last lines of the old process
#[tokio::test]
async fn a_log_file_has_each_line_once() {
    let upstream = Upstream::ok("body");
    let running = Upgradable::start_with_log_file(Gateway::builder().bucket("b", &upstream)).await;
    each_line_is_once_in_the_log(running, |gateway| lines_of(&gateway.directory().join("log"))).await;
}

/// G11, O1: the same with stdout
#[tokio::test]
async fn stdout_has_each_line_once() {
    let upstream = Upstream::ok("body");
    let running = Upgradable::in_front_of(&upstream).await;
    each_line_is_once_in_the_log(running, Gateway::log_lines).await;
}

/// G11, G4: SIGUSR1 to the new process is enough for a rotation: the old one writes to the new file too, to its last line
#[tokio::test]
async fn a_rotation_holds_for_both_processes() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let mut running = Upgradable::start_with_log_file(Gateway::builder().bucket("b", &upstream)).await;
    let mut download = Client::connect(running.gateway.address()).await;
    download.send(client::message("GET", "/b/k", &[], None)).await;
    let mut answer = download.head().await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    let successor = running.upgraded().await;

    let directory = running.gateway.directory().to_owned();
    let (file, rotated) = (directory.join("log"), directory.join("log.1"));
    wait_until("the old process drains", || with(&lines_of(&file), "draining") == 1).await;
    fs::rename(&file, &rotated).unwrap();
    let pid = Pid::from_raw(i32::try_from(successor).unwrap()).unwrap();
    kill_process(pid, Signal::USR1).unwrap();
    wait_until("the new file is open", || with(&lines_of(&file), "log file reopened") == 1).await;
    let before = fs::read(&rotated).unwrap();

    latch.open_for_all();
    download.body(&mut answer, "GET").await;
    assert_eq!(answer.complete_status(), 200);
    drop(download);
    running.wait_for_end_of_predecessor().await;
    let found = wait_for("the old process has stopped", || async {
        let lines = lines_of(&file);
        (with(&lines, "the predecessor has ended") == 1 && with(&lines, "stopped") == 1).then_some(lines)
    })
    .await;
    assert_eq!(requests(&found).into_iter().collect::<Vec<_>>(), [(id, 1)]);
    assert_eq!(fs::read(&rotated).unwrap(), before, "nothing more is in the old file");
    assert_eq!(running.gateway.stderr(), "");
}
