//! `tidegate simulate` and `tidegate incident`, with logs of a running gateway and with damaged ones.

mod bad_logs;
mod incident;
mod json_fields;
mod memory;
mod prediction;
mod reports;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Gateway;
use crate::support::gateway::ExitReport;

/// A configuration with one bucket and further keys.
fn configuration(keys: &str) -> String {
    let bucket = "buckets.b.auth = [\"anonymous\"]\nbuckets.b.s3.endpoints = [\"http://127.0.0.1:9\"]\n";
    format!("{bucket}{keys}\n")
}

/// Runs `tidegate simulate` with a configuration.
fn simulate(new: &str, arguments: &[&str], logs: &[&Path]) -> ExitReport {
    let builder = Gateway::builder().config(new).argument("simulate");
    let builder = arguments.iter().fold(builder, |builder, argument| builder.argument(argument));
    logs.iter().fold(builder, |builder, log| builder.argument(log.to_str().unwrap())).run()
}

/// The report of `tidegate simulate` as JSON.
fn report(new: &str, arguments: &[&str], logs: &[&Path]) -> Value {
    let arguments: Vec<&str> = ["--json", "-"].iter().chain(arguments).copied().collect();
    let run = simulate(new, &arguments, logs);
    assert_eq!(run.code, Some(0), "{run:?}");
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// The figures of one side of a report.
fn side<'a>(report: &'a Value, side: &str) -> &'a Value {
    let sides = report["all"].as_array().unwrap();
    sides.iter().find(|counts| counts["side"] == side).unwrap_or_else(|| panic!("no {side}: {report}"))
}

/// Writes a log.
fn write_log(directory: &Path, name: &str, lines: &[String]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    path
}

/// An access line of a successful read that began at `start_ms` after a fixed time and took `took_ms`.
fn access_line(start_ms: u64, took_ms: u64, client: &str, more: &str) -> String {
    const BEGIN_S: u64 = 1_795_245_000;
    let (start_us, end_ms) = (BEGIN_S * 1_000_000 + start_ms * 1_000, start_ms + took_ms);
    // 2026-11-21T07:10:00Z
    let (second, milli) = (end_ms / 1_000, end_ms % 1_000);
    let stamp = format!("2026-11-21T07:{:02}:{:02}.{milli:03}Z", 10 + second / 60, second % 60);
    format!(
        "{{\"ts\":\"{stamp}\",\"level\":\"INFO\",\"msg\":\"request\",\"id\":\"x\",\"method\":\"GET\",\"path\":\"/b/k\",\"bucket\":\"b\",\
         \"status\":200,\"client\":\"{client}\",\"client_source\":\"peer\",\"received_bytes\":0,\"sent_bytes\":1,\"class\":\"read\",\"cost\":1,\
         \"attempts\":1,\"endpoint\":0,\"admission_us\":0,\"queue_us\":0,\"first_byte_us\":1,{more}\"start_us\":{start_us},\"total_us\":{}}}",
        took_ms * 1_000
    )
}
