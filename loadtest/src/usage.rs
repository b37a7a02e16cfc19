//! Resource usage of a process tree from `/proc`: memory, descriptors and CPU time.
//!
//! CPU time per request is meaningful also on a shared machine. The CPU time of unrelated processes shows how reliable the latency and
//! throughput of a run are.

use std::collections::HashMap;
use std::fs;

/// Seconds of CPU time per tick of `/proc/PID/stat`.
fn tick_seconds() -> f64 {
    1.0 / rustix::param::clock_ticks_per_second() as f64
}

/// The fields of a process's `stat` after its name, which may contain spaces.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = text.rsplit_once(')')?.1;
    Some(after_name.split_whitespace().map(str::to_owned).collect())
}

/// A process and all its descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        let parent = stat_fields(pid).and_then(|fields| fields.get(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// CPU time used so far by `processes`, in seconds.
pub(crate) fn cpu_seconds(processes: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let fields = stat_fields(*pid)?;
        let user: u64 = fields.get(11)?.parse().ok()?;
        let system: u64 = fields.get(12)?.parse().ok()?;
        Some(user + system)
    };
    processes.iter().filter_map(ticks).sum::<u64>() as f64 * tick_seconds()
}

/// CPU time used so far by all processes of the machine, in seconds.
pub(crate) fn host_cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let idle = fields.get(3).copied().unwrap_or(0) + fields.get(4).copied().unwrap_or(0);
    // The first eight fields: guest time, from the ninth field on, is contained in user time.
    let all: u64 = fields.iter().take(8).sum();
    (all - idle) as f64 * tick_seconds()
}

/// Resident memory of `processes`, in MiB.
pub(crate) fn rss_mib(processes: &[u32]) -> f64 {
    processes.iter().filter_map(|pid| status_field(*pid, "VmRSS:")).sum::<f64>() / 1024.0
}

/// Threads of `processes`.
pub(crate) fn threads(processes: &[u32]) -> f64 {
    processes.iter().filter_map(|pid| status_field(*pid, "Threads:")).sum()
}

/// A number in `/proc/PID/status`.
fn status_field(pid: u32, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Open descriptors of `processes`.
pub(crate) fn descriptors(processes: &[u32]) -> f64 {
    let count = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count);
    processes.iter().filter_map(count).sum::<usize>() as f64
}

/// A period over which the CPU time of other processes is measured.
pub(crate) struct CpuWindow {
    ours: Vec<u32>,
    ours_begin: f64,
    host_begin: f64,
    begin: std::time::Instant,
}

impl CpuWindow {
    /// Starts now. `ours`: the processes of the run, including the load generator.
    pub(crate) fn begin(ours: Vec<u32>) -> Self {
        let (ours_begin, host_begin) = (cpu_seconds(&ours), host_cpu_seconds());
        Self { ours, ours_begin, host_begin, begin: crate::clock::now() }
    }

    /// Cores used by unrelated processes since the start.
    pub(crate) fn other_cores(&self) -> f64 {
        let seconds = (crate::clock::now() - self.begin).as_secs_f64().max(1e-3);
        let ours = cpu_seconds(&self.ours) - self.ours_begin;
        ((host_cpu_seconds() - self.host_begin - ours) / seconds).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let me = tree(std::process::id());
        assert_eq!(me[0], std::process::id());
        assert!(rss_mib(&me) > 1.0);
        assert!(descriptors(&me) >= 3.0);
        assert!(threads(&me) >= 1.0);
    }

    #[test]
    fn processor_time_grows_with_work() {
        let me = [std::process::id()];
        let before = cpu_seconds(&me);
        let host_before = host_cpu_seconds();
        while cpu_seconds(&me) < before + 0.05 {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
        assert!(host_cpu_seconds() >= host_before + 0.03);
    }
}
