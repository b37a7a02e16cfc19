//! Upgrades: a running gateway starts its program file again and hands over to the new process.
//!
//! The program file is a link to the built binary in a directory of the test, so that a test can put another program there.

mod addresses;
mod commands;
mod failed_successors;
mod failures;
mod limits;
mod log;
mod operator_drains;
mod panics;
mod refusals;
mod secrets;
mod service_manager;
mod state;
mod streams;
mod traffic;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::status::schema;
use crate::support::gateway::Builder;
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, get, request, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// An upstream with a download that ends when the latch opens.
fn with_slow_download() -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/b/slow" => UpstreamReply::ok("begin").then_body_when_open(&held, "end"),
        _ => UpstreamReply::ok("x"),
    });
    (upstream, latch)
}

/// A running gateway with its own program file, and the processes that it has started.
struct Upgradable {
    gateway: Gateway,
    program: PathBuf,
    /// The process IDs in the replies. Those in the log come later.
    replied: Mutex<Vec<i32>>,
}

impl Upgradable {
    async fn start(builder: Builder) -> Self {
        let program = builder.directory().join("tidegate");
        link(&program);
        let gateway = builder.program(program.clone()).start().await;
        Self { gateway, program, replied: Mutex::default() }
    }

    /// Starts it with the file `log` in its directory as the output of the log.
    async fn start_with_log_file(builder: Builder) -> Self {
        let (program, file) = (builder.directory().join("tidegate"), builder.directory().join("log"));
        link(&program);
        let builder = builder.set("log.output", file.to_str().unwrap()).program(program.clone());
        Self { gateway: builder.start_with_log_file(&file).await, program, replied: Mutex::default() }
    }

    async fn in_front_of(upstream: &Upstream) -> Self {
        Self::start(Gateway::builder().bucket("b", upstream)).await
    }

    /// Puts a script at the place of the program.
    fn replace_by_script(&self, lines: &str) {
        let script = self.gateway.directory().join("script");
        fs::write(&script, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(script, &self.program).unwrap();
    }

    /// Puts a link to another program at its place.
    fn replace_by(&self, target: &str) {
        fs::remove_file(&self.program).unwrap();
        symlink(target, &self.program).unwrap();
    }

    /// Sends `POST /upgrade`; returns the status and the document.
    async fn upgrade(&self) -> (u16, Value) {
        let answer = self.gateway.post("/upgrade").await;
        let reply: Value = serde_json::from_slice(&answer.body).unwrap();
        self.replied.lock().unwrap().extend(reply["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()));
        (answer.complete_status(), reply)
    }

    /// Upgrades and returns the process ID of the successor.
    async fn upgraded(&self) -> u32 {
        let (status, reply) = self.upgrade().await;
        assert_eq!((status, reply["result"].as_str()), (200, Some("upgraded")), "{reply}");
        u32::try_from(reply["pid"].as_u64().unwrap()).unwrap()
    }

    /// The message of an upgrade that is refused or fails with this status and code. The gateway goes on.
    async fn not_upgraded(&self, status: u16, code: &str) -> String {
        let (found, reply) = self.upgrade().await;
        assert_eq!((found, reply["error"]["code"].as_str()), (status, Some(code)), "{reply}");
        assert_eq!(self.gateway.get("/b/k").await.complete_status(), 200);
        reply["error"]["message"].as_str().unwrap().to_owned()
    }

    /// Waits until the predecessor has exited, and the successor reports none.
    async fn wait_for_end_of_predecessor(&mut self) {
        assert_eq!(self.gateway.wait_exit().await.code(), Some(0));
        wait_for("the successor has no predecessor", || async {
            (self.gateway.status().await["predecessors"].as_array().unwrap().is_empty()).then_some(())
        })
        .await;
    }

    /// The processes that it has started and that have not ended.
    fn successors(&self) -> Vec<Pid> {
        let directory = fs::canonicalize(self.gateway.directory()).unwrap();
        let lines = self.gateway.raw_log();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = lines.filter(|line| line["msg"] == "upgrade begins");
        let logged = started.filter_map(|line| i32::try_from(line["pid"].as_i64()?).ok());
        let pids: BTreeSet<i32> = logged.chain(self.replied.lock().unwrap().clone()).collect();
        pids.into_iter()
            .filter_map(Pid::from_raw)
            .filter(|pid| {
                let of = |name: &str| format!("/proc/{}/{name}", pid.as_raw_nonzero());
                fs::read_link(of("cwd")).is_ok_and(|cwd| cwd == directory)
            })
            .collect()
    }
}

impl Drop for Upgradable {
    fn drop(&mut self) {
        for pid in self.successors() {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn link(program: &Path) {
    symlink(BINARY, program).unwrap();
}

/// The file of a process in /proc.
fn proc_file(pid: u32, name: &str) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/{name}")).unwrap()
}

/// G8: the new process serves on the same sockets and answers admin, shows its predecessor while that drains, and the old one exits with 0
#[tokio::test]
async fn the_new_process_serves_and_the_old_one_exits() {
    let upstream = Upstream::ok("x");
    let mut running = Upgradable::in_front_of(&upstream).await;
    let first = running.gateway.pid();
    let mut kept = crate::support::Client::connect(running.gateway.address()).await;
    let message = || crate::support::client::message("GET", "/b/k", &[], None);
    kept.send(message()).await;
    assert_eq!(kept.response("GET").await.complete_status(), 200);

    let document =
        async |path: &str| serde_json::from_slice::<Value>(&running.gateway.admin(path).await.body).unwrap();
    let (openapi, schema) = (document("/openapi.json").await, document("/status.schema.json").await);
    let (code, reply) = running.upgrade().await;
    assert_eq!((code, &reply["predecessor"]["pid"]), (200, &first.into()), "{reply}");
    assert_ne!(reply["pid"], first);
    let of_reply = &openapi["components"]["schemas"]["UpgradeReply"];
    assert_eq!(schema::faults(&openapi, of_reply, &reply), [""; 0], "{reply}");
    let status = running.gateway.status().await;
    let predecessor = &status["predecessors"][0];
    let of_predecessor = &schema["$defs"]["predecessor"];
    // The limits have a map by bucket, which has no list of properties.
    let mut without_map = predecessor.clone();
    without_map["limits"] = Value::Null;
    assert_eq!(schema::faults(&schema, of_predecessor, &without_map), [""; 0], "{predecessor}");
    assert_eq!((&predecessor["pid"], &predecessor["version"]), (&first.into(), &status["version"]));
    assert!(predecessor["since"].as_str().unwrap().ends_with('Z'), "{predecessor}");
    wait_for("the predecessor has reported its drain", || async {
        let status = running.gateway.status().await;
        (status["predecessors"][0]["drain"]["connections"] == 1).then_some(())
    })
    .await;
    assert_eq!(get(running.gateway.address(), "/b/k").await.complete_status(), 200);

    // An idle connection of the old process stays until its next answer.
    kept.send(message()).await;
    let last = kept.response("GET").await;
    assert_eq!((last.complete_status(), last.header("connection")), (200, Some("close")));
    running.wait_for_end_of_predecessor().await;
    let ready = request(running.gateway.admin_address(), "GET", "/readyz", &[], None).await;
    assert_eq!(ready.complete_status(), 200);
    running.gateway.wait_for_log_line("the predecessor has ended", |line| line["pid"] == first).await;
}
