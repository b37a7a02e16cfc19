//! A gateway's process: signals, limits, descriptors, memory, and its end.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::gateway::Builder;
use super::{Gateway, WAIT_MAX};

impl Builder {
    /// `exhausted` at half of the descriptors, for `Gateway::exhaust_descriptors`, which leaves a third of them free
    /// for accepting.
    pub(crate) fn exhaust_at_half_of_descriptors(self) -> Self {
        let levels = [("warning", "30"), ("critical", "40"), ("exhausted", "50")];
        let quick = self.set("monitor.interval_ms", "20");
        levels
            .into_iter()
            .fold(quick, |builder, (level, percent)| builder.set(&format!("monitor.{level}"), percent))
    }
}

impl Gateway {
    /// The process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Changes the soft limit of its descriptors from outside, as `prlimit` does.
    pub(crate) fn limit_descriptors(&self, soft: u64) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let limit = Rlimit { current: Some(soft), maximum: self.descriptor_limits().1 };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }

    /// Lowers its limit of descriptors so that the open ones are two thirds of it.
    pub(crate) fn exhaust_descriptors(&self) {
        let open = u64::try_from(self.open_descriptors()).unwrap();
        self.limit_descriptors(open + open / 2);
    }

    /// The soft and the hard limit of its descriptors.
    pub(crate) fn descriptor_limits(&self) -> (Option<u64>, Option<u64>) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.pid())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut words = line.split_whitespace().map(|word| word.parse().ok());
        (words.next().unwrap(), words.next().unwrap())
    }

    /// The number of its open descriptors.
    pub(crate) fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The resident memory of the process.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The number of its threads.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count()
    }

    /// Sends SIGTERM.
    pub(crate) fn send_sigterm(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP, which reloads the configuration and the certificate.
    pub(crate) fn send_sighup(&self) {
        self.signal(Signal::HUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < WAIT_MAX, "it is still running");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
