//! The limit of descriptors: raised at the start, followed at run time, and divided so that the admin listener always
//! answers.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;

use super::{circuit_state, kept};
use crate::status::{has_begun, has_ended};
use crate::support::client::{Client, message};
use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream, get, wait_for};

/// X5: the soft limit is raised to the hard limit
#[tokio::test]
async fn the_soft_limit_is_raised() {
    let upstream = Upstream::ok("x");
    let gateway =
        Gateway::builder().bucket("b", &upstream).ulimit("-Sn 256 && ulimit -Hn 4096").start().await;
    assert_eq!(gateway.descriptor_limits(), (Some(4096), Some(4096)));
    let line =
        gateway.wait_for_log_line("soft limit of descriptors raised to the hard limit", |_| true).await;
    assert_eq!((&line["before"], &line["now"]), (&256.into(), &4096.into()));
    assert_eq!(gateway.status().await["resources"]["descriptors"]["limit"], 4096);
}

/// X5, G12: a limit below the needs of the configured connections gives one warning with figures and the remedy, with
/// the text of `check`
#[tokio::test]
async fn a_start_with_too_few_descriptors_warns() {
    let upstream = Upstream::ok("x");
    let few = || Gateway::builder().bucket("b", &upstream).ulimit("-n 512");
    let gateway = few().start().await;
    let needed =
        gateway.wait_for_log_line("descriptor limit", |line| line["limit"] == 512).await["needed"].clone();
    let lines = gateway.log_lines();
    let of_descriptors =
        |line: &&serde_json::Value| line["level"] == "WARNING" && line.to_string().contains("descriptor");
    let warnings: Vec<_> = lines.iter().filter(of_descriptors).collect();
    let [warning] = warnings[..] else { panic!("not one warning: {warnings:?}") };
    assert_eq!(
        (&warning["msg"], &warning["key"]),
        (&"configuration warning".into(), &"monitor.descriptor_limit".into())
    );
    let (detail, hint) = (warning["detail"].as_str().unwrap(), warning["hint"].as_str().unwrap());
    assert!(detail.contains("clients 1000, upstream connections 60"), "{detail}");
    assert!(detail.contains(&needed.to_string()) && hint.contains(&needed.to_string()), "{warning}");
    let check = few().argument("check").run();
    assert!(
        check.stderr.contains(&format!("warning: monitor.descriptor_limit: {detail}; {hint}")),
        "{}",
        check.stderr
    );
    let enough = Gateway::builder().bucket("b", &upstream).ulimit(&format!("-n {needed}")).start().await;
    enough.wait_for_log_line("descriptor limit", |line| line["limit"] == needed).await;
    assert!(enough.log_lines().iter().all(|line| line["msg"] != "configuration warning"));
}

/// X5: a limit under which no request could be served is a start-up error that names the limit and the remedy
#[tokio::test]
async fn a_start_without_descriptors_for_requests_fails() {
    let upstream = Upstream::ok("x");
    for limit in [32, 40, 48] {
        let ended = Gateway::builder().bucket("b", &upstream).ulimit(&format!("-n {limit}")).run();
        assert_eq!(ended.code, Some(71), "{}", ended.stderr);
        let text = format!("the limit of {limit} descriptors is too low, the gateway needs at least ");
        assert!(ended.stderr.contains(&text) && ended.stderr.contains("ulimit -n"), "{}", ended.stderr);
    }
}

/// The minimum limit in an error.
fn minimum_of(stderr: &str) -> u64 {
    let after = stderr.split_once("needs at least ").unwrap_or_else(|| panic!("no minimum: {stderr}")).1;
    after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// `check` and the start refuse anything below the minimum that they name, with the same line; the minimum serves
/// requests.
async fn assert_named_minimum(limited: impl Fn(u64) -> Builder, code: i32, words: &str) {
    let needed = minimum_of(&limited(30).argument("check").run().stderr);
    for limit in [30, needed - 1] {
        let (checked, started) = (limited(limit).argument("check").run(), limited(limit).run());
        assert_eq!((checked.code, started.code), (Some(code), Some(code)), "{checked:?}\n{started:?}");
        assert!(checked.stderr.contains(words), "{}", checked.stderr);
        assert_eq!(checked.stderr, started.stderr);
    }
    assert_eq!(limited(needed).argument("check").run().code, Some(0));
    let gateway = limited(needed).start().await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{words}{needed}");
    }
}

/// X5, G12: for the system limit and for the config key
#[tokio::test]
async fn check_verifies_the_minimum_descriptor_limit() {
    let upstream = Upstream::ok("x");
    let built = || Gateway::builder().bucket("b", &upstream);
    let by_system = |limit: u64| built().ulimit(&format!("-n {limit}"));
    assert_named_minimum(by_system, 71, "the limit of ").await;
    let by_key = |limit: u64| built().set("monitor.descriptor_limit", &limit.to_string());
    assert_named_minimum(by_key, 78, "monitor.descriptor_limit: ").await;
}

/// The descriptors of the gateway that are open for the CPU time of a thread.
fn cpu_time_files(gateway: &Gateway) -> BTreeSet<(OsString, PathBuf)> {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().map(Result::unwrap);
    let files = entries.filter_map(|entry| Some((entry.file_name(), std::fs::read_link(entry.path()).ok()?)));
    files.filter(|(_, target)| target.ends_with("schedstat")).collect()
}

/// X1, X5: each worker thread keeps the file with its CPU time open instead of opening it for each measurement
#[tokio::test]
async fn each_worker_keeps_the_file_with_its_cpu_time() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("server.workers", "3").start().await;
    let measured = || async {
        let status = gateway.status().await;
        let lags = status["waits"]["event_loop"].as_array().unwrap();
        (lags.len() == 3 && lags.iter().all(|lag| lag["value_ms"].is_number())).then_some(())
    };
    wait_for("each worker has measured", measured).await;
    let files = cpu_time_files(&gateway);
    let threads: BTreeSet<_> = files.iter().map(|(_, target)| target).collect();
    assert_eq!((files.len(), threads.len()), (3, 3), "{files:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    wait_for("each worker has measured", measured).await;
    assert_eq!(cpu_time_files(&gateway), files);
}

/// X1: a limit that is lowered from outside takes effect in the monitor at once
#[tokio::test]
async fn the_monitor_follows_the_limit() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for limit in [900, 700] {
        gateway.limit_descriptors(limit);
        wait_for("the monitor has the limit", || async {
            (gateway.status().await["resources"]["descriptors"]["limit"] == limit).then_some(())
        })
        .await;
    }
}

/// Requests every admin endpoint in a loop until it is stopped; returns the number of rounds.
async fn ask_the_admin_listener(gateway: &Gateway, is_over: &AtomicBool) -> usize {
    let mut rounds = 0;
    while !is_over.load(Ordering::Relaxed) {
        for path in ["/livez", "/readyz", "/status", "/metrics"] {
            assert_eq!(get(gateway.admin_address(), path).await.complete_status(), 200, "{path}");
        }
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rounds
}

/// X3, X5, X9: with 128 descriptors and 200 kept connections the admin listener always answers, every client is served
/// when others become idle, and the store counts no failure
#[tokio::test]
async fn more_clients_than_descriptors_are_served() {
    let upstream = Upstream::ok("x");
    let gateway = Arc::new(Gateway::builder().bucket("b", &upstream).ulimit("-n 128").start().await);
    let is_over = Arc::new(AtomicBool::new(false));
    let (pending, until_over) = (Arc::clone(&gateway), Arc::clone(&is_over));
    let admin = tokio::spawn(async move { ask_the_admin_listener(&pending, &until_over).await });
    let clients = join_all((0..200).map(|_| kept(&gateway))).await;
    for _ in 0..40 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(admin.await.unwrap() >= 10);
    assert_eq!(clients.len(), 200);
    assert_eq!(circuit_state(&gateway).await, "closed");
    assert_eq!(gateway.metric("own_shortages_total{cause=\"out_of_descriptors\"}").await, 0.0);
}

/// X5: clients with requests in flight keep their connections; connections beyond the budget wait in the backlog,
/// without a busy loop
#[tokio::test]
async fn clients_beyond_the_budget_wait() {
    let (upstream, latch) = crate::pool::held();
    let gateway = Gateway::builder().bucket("b", &upstream).ulimit("-n 128").start().await;
    let mut clients = Vec::new();
    for i in 0..90 {
        let mut client = Client::connect(gateway.address()).await;
        client.send(message("GET", &format!("/b/{i}"), &[], None)).await;
        clients.push(client);
    }
    wait_for("requests are in flight", || async { (upstream.in_flight() >= 10).then_some(()) }).await;
    let waiting = has_begun(&gateway, "connections_wait", "process").await;
    assert_eq!(waiting["scope"]["name"], "data", "{waiting}");
    let failures = || gateway.metric("accept_failures_total{cause=\"out_of_descriptors\"}");
    let (before, failed, began) = (cpu_ticks(&gateway), failures().await, Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(failures().await, failed, "an episode counts once, however often connections are searched");
    let spent = (cpu_ticks(&gateway) - before) as f64;
    let waited = began.elapsed().as_secs_f64();
    assert!(spent < 30.0 * waited, "{spent} ticks of 10 ms in {waited} s of waiting");
    assert_eq!(gateway.admin("/status").await.complete_status(), 200);
    latch.open_for_all();
    for client in &mut clients {
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
    assert_eq!(circuit_state(&gateway).await, "closed");
    drop(clients);
    has_ended(&gateway, "connections_wait", "process").await;
}

/// CPU time of the process, in ticks of 10 ms.
fn cpu_ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// X3: the admin listener's own idle connections are closed, and their number is bounded
#[tokio::test]
async fn admin_connections_do_not_block_others() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).ulimit("-n 128").start().await;
    let mut admins = Vec::new();
    for _ in 0..200 {
        let mut client = Client::connect(gateway.admin_address()).await;
        client.send(message("GET", "/livez", &[("connection", "keep-alive")], None)).await;
        assert_eq!(client.response("GET").await.complete_status(), 200);
        admins.push(client);
        assert!(gateway.open_descriptors() < 128);
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.admin("/status").await.complete_status(), 200);
}

/// X3: if the limit falls below the open descriptors, the admin listener answers, and requests are served after idle
/// connections have closed
#[tokio::test]
async fn the_admin_listener_answers_below_the_open_descriptors() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).start().await;
    let mut clients = Vec::new();
    for _ in 0..150 {
        clients.push(kept(&gateway).await);
    }
    let limit = 128;
    gateway.limit_descriptors(limit);
    for _ in 0..20 {
        assert_eq!(gateway.admin("/livez").await.complete_status(), 200);
        assert_eq!(gateway.admin("/status").await.complete_status(), 200);
    }
    wait_for("idle connections close", || async { (gateway.open_descriptors() < 103).then_some(()) }).await;
    let served = || async { (gateway.get("/b/k").await.complete_status() == 200).then_some(()) };
    wait_for("requests are served", served).await;
    assert_eq!(circuit_state(&gateway).await, "closed");
}

/// X3: the log file is reopened although no other descriptor is free
#[tokio::test]
async fn the_log_is_reopened_without_descriptors() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).start_with_terminal_log().await;
    let log = gateway.directory().join("log");
    gateway.limit_descriptors(20);
    std::fs::rename(&log, gateway.directory().join("log.1")).unwrap();
    gateway.signal(Signal::USR1);
    wait_for("a new log file is opened", || async { log.exists().then_some(()) }).await;
    assert_eq!(gateway.admin("/livez").await.complete_status(), 200);
}
