//! A log of any length needs the same memory.

use std::io::{BufWriter, Write};
use std::process::{ChildStdin, Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::{access_line, configuration, side};
use crate::support::Scratch;

/// Access lines of 1 KiB.
const LINES: u64 = 200_000;
/// The most resident memory of the process, in which the lines have no room. A limit of its address space would depend on how far its
/// allocator has come when the limit is set.
const PEAK_MAX: u64 = 120 << 20;
/// What the resident memory may grow by after the first third of the log. The requests would need 16 MiB.
const GROWTH_MAX: u64 = 8 << 20;

/// Writes the log, compressed, and returns the peaks of the resident memory of its reader: after a third, and at the end.
fn write_long_log(pipe: ChildStdin, peak: impl Fn() -> u64) -> [u64; 2] {
    let mut log = BufWriter::with_capacity(1 << 20, GzEncoder::new(pipe, Compression::fast()));
    let padding = format!("\"user_agent\":\"{}\",", "x".repeat(640));
    let mut after_a_third = 0;
    for at in 0..LINES {
        let line = access_line(at, 5, &format!("10.0.0.{}", at % 250), &padding);
        writeln!(log, "{line}").unwrap();
        if at == LINES / 3 {
            after_a_third = peak();
        }
    }
    log.flush().unwrap();
    let peaks = [after_a_third, peak()];
    log.into_inner().unwrap().finish().unwrap();
    peaks
}

/// O7: a log of 200 MiB is streamed with less memory than it has, and the memory does not grow with its length
#[test]
fn a_long_log_needs_no_memory() {
    let directory = Scratch::new();
    let new = directory.path().join("new.toml");
    std::fs::write(&new, configuration("rate_limit.per_ip.requests_per_second = 2")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env_clear()
        .args(["simulate", "--suggest", "--config", new.to_str().unwrap(), "--json", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    let [before, after] = write_long_log(child.stdin.take().unwrap(), peak);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(side(&report, "new")["requests"], LINES, "{report}");
    assert!(side(&report, "new")["refused_by_reason"]["rate_limit_ip"].as_u64().unwrap() > LINES / 4);
    assert!(after < before + GROWTH_MAX, "from {before} to {after}");
    assert!(after < PEAK_MAX, "{after}");
}
