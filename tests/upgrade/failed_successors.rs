//! A new process that ends while the old one drains: no process serves then, and the old one shows that.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Upgradable;
use crate::support::client::message;
use crate::support::{Client, Gateway, Latch, Response, Upstream, UpstreamReply};

/// A gateway with a download that ends when the latch opens.
struct Draining {
    running: Upgradable,
    _upstream: Upstream,
    latch: Latch,
    download: Client,
    answer: Response,
}

impl Draining {
    async fn start() -> Self {
        let latch = Latch::new();
        let held = latch.clone();
        let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
        let running = Upgradable::start(Gateway::builder().bucket("b", &upstream)).await;
        let mut download = Client::connect(running.gateway.address()).await;
        download.send(message("GET", "/b/slow", &[], None)).await;
        let answer = download.head().await;
        Self { running, _upstream: upstream, latch, download, answer }
    }

    /// Upgrades, and ends the new process by this signal.
    async fn end_successor(&self, signal: Signal) -> u32 {
        let successor = self.running.upgraded().await;
        self.running.gateway.wait_for_log_line("draining", |_| true).await;
        let pid = Pid::from_raw(i32::try_from(successor).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        successor
    }

    /// Ends the download, which is complete, and waits for the exit code of the old process.
    async fn finish(mut self) -> (Option<i32>, Upgradable) {
        self.latch.open_for_all();
        self.download.body(&mut self.answer, "GET").await;
        assert_eq!((self.answer.complete_status(), self.answer.text().as_str()), (200, "beginend"));
        drop(self.download);
        (self.running.gateway.wait_exit().await.code(), self.running)
    }
}

fn lines_with(running: &Upgradable, message: &str) -> Vec<Value> {
    running.gateway.log_lines().into_iter().filter(|line| line["msg"] == message).collect()
}

const ENDED: &str = "the successor has ended while this process drains";
const STOPPED: &str = "the successor was stopped while this process drains";

/// G8: the end of the new process by a failure is an error in the log of the old one, which finishes its requests and exits with 70
#[tokio::test]
async fn a_killed_successor_is_an_error_of_the_old_process() {
    let draining = Draining::start().await;
    let successor = draining.end_successor(Signal::KILL).await;
    let line = draining.running.gateway.wait_for_log_line(ENDED, |_| true).await;
    assert_eq!((&line["pid"], &line["level"]), (&successor.into(), &"ERROR".into()), "{line}");
    assert!(line["detail"].as_str().unwrap().contains("SIGKILL"), "{line}");
    let (code, running) = draining.finish().await;
    assert_eq!(code, Some(70));
    assert_eq!((lines_with(&running, ENDED).len(), lines_with(&running, STOPPED).len()), (1, 0));
    assert!(running.gateway.stderr().contains("no process serves"), "{}", running.gateway.stderr());
}

/// G8: a stop of the new process is no failure: the old one logs it, finishes its requests and exits with 0
#[tokio::test]
async fn a_stopped_successor_is_no_failure() {
    let draining = Draining::start().await;
    let successor = draining.end_successor(Signal::TERM).await;
    let line = draining.running.gateway.wait_for_log_line(STOPPED, |_| true).await;
    assert_eq!(line["pid"], successor, "{line}");
    let (code, running) = draining.finish().await;
    assert_eq!((code, lines_with(&running, ENDED).len()), (Some(0), 0));
}

/// G8: requests that the new process cut off at its own stop are in the exit code of the old one
#[tokio::test]
async fn cut_off_requests_of_the_successor_are_in_the_exit_code() {
    let draining = Draining::start().await;
    let successor = draining.running.upgraded().await;
    let mut other = Client::connect(draining.running.gateway.address()).await;
    other.send(message("GET", "/b/slow", &[], None)).await;
    assert_eq!(other.head().await.status, 200);
    let pid = Pid::from_raw(i32::try_from(successor).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let is_of_successor = |line: &Value| line["cause"] == "signal";
    draining.running.gateway.wait_for_log_line("draining", is_of_successor).await;
    // The second signal ends it at once. The same one within 100 ms is a repeat.
    kill_process(pid, Signal::INT).unwrap();
    let line = draining.running.gateway.wait_for_log_line(ENDED, |_| true).await;
    assert_eq!(line["detail"], "exit status: 1", "{line}");
    assert_eq!(draining.finish().await.0, Some(1));
}
