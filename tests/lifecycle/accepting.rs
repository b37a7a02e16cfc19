//! Accepting connections while no descriptor is free.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::time::sleep;

use crate::support::client::message;
use crate::support::{Client, Gateway, Upstream};

/// Sets the soft limit of descriptors of the running process, as `prlimit` does; returns the one before.
fn set_descriptor_limit(gateway: &Gateway, limit: u64) -> u64 {
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
    before.current.unwrap()
}

/// The lowest unused descriptor number. As the limit it allows no new descriptor.
fn lowest_free_descriptor(gateway: &Gateway) -> u64 {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    let used: HashSet<u64> =
        folder.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).find(|number| !used.contains(number)).unwrap()
}

/// CPU time of the process in clock ticks of 10 ms (proc(5): utime and stime).
fn processor_ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// X5: without descriptors accepting pauses without a busy loop; with free ones it resumes and serves the waiting
/// connections. The log has one line for the begin and one for the end, and a metric counts the pauses
#[tokio::test]
async fn accepting_pauses_without_descriptors_and_resumes() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let before = set_descriptor_limit(&gateway, lowest_free_descriptor(&gateway));
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(gateway.address()).await);
    }
    let pauses = gateway.wait_for_log_line("accepting connections pauses", |_| true).await;
    assert_eq!((&pauses["cause"], &pauses["listener"]), (&"out_of_descriptors".into(), &"data".into()));
    assert!(pauses["hint"].as_str().unwrap().contains("ulimit -n"), "{pauses}");
    let ticks = processor_ticks(&gateway);
    sleep(Duration::from_secs(2)).await;
    let spent = processor_ticks(&gateway) - ticks;
    assert!(spent < 50, "{spent} ticks of 10 ms in 2 s: a busy loop");
    set_descriptor_limit(&gateway, before);
    for client in &mut clients {
        // A health request, because the monitor sheds other requests for a while after a shortage.
        client.send(message("GET", "/-/livez", &[], None)).await;
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
    gateway.wait_for_log_line("accepting connections resumes", |line| line["listener"] == "data").await;
    assert!(gateway.metric("accept_failures_total{cause=\"out_of_descriptors\"}").await >= 2.0);
    let lines = gateway.log_lines();
    let count = |message: &str| lines.iter().filter(|line| line["msg"] == message).count();
    assert_eq!((count("accepting connections pauses"), count("accepting connections resumes")), (1, 1));
}
