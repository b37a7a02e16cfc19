//! Metrics of the process under their standard names, without the namespace.
//!
//! They are read at each scrape from `/proc/self` (proc_pid_stat(5), proc_pid_status(5)) and `/proc/stat`. What cannot be
//! read keeps its last value. The reserve of descriptors serves these files when the process has none left.

use std::fs;
use std::sync::{Mutex, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge, Registry};
use tidegate_actors::descriptors;

/// Clock ticks per second in `/proc`: `USER_HZ`, which is 100 on every architecture of Linux that this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;
/// Fields of `/proc/self/stat` after the name of the program, counted from 0.
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;
const START_TIME: usize = 19;

/// The metrics `process_*`.
pub(crate) struct ProcessMetrics {
    registry: Registry,
    /// Locked while it is raised to the read time, so that two scrapes do not add the same difference.
    cpu: Mutex<Counter>,
    start_time: Gauge,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_descriptors: IntGauge,
    max_descriptors: IntGauge,
}

impl ProcessMetrics {
    pub(crate) fn register() -> Result<Self, prometheus::Error> {
        let this = Self {
            registry: Registry::new(),
            cpu: Mutex::new(Counter::new(
                "process_cpu_seconds_total",
                "CPU time of the process in user and system mode, in seconds",
            )?),
            start_time: Gauge::new(
                "process_start_time_seconds",
                "start of the process in seconds since the Unix epoch",
            )?,
            resident: IntGauge::new("process_resident_memory_bytes", "resident memory of the process")?,
            virtual_memory: IntGauge::new("process_virtual_memory_bytes", "virtual memory of the process")?,
            open_descriptors: IntGauge::new("process_open_fds", "open descriptors of the process")?,
            max_descriptors: IntGauge::new(
                "process_max_fds",
                "soft limit of the process's descriptors; absent while there is none",
            )?,
        };
        let cpu = this.cpu.lock().unwrap_or_else(PoisonError::into_inner).clone();
        this.registry.register(Box::new(cpu))?;
        this.registry.register(Box::new(this.start_time.clone()))?;
        let gauges = [&this.resident, &this.virtual_memory, &this.open_descriptors, &this.max_descriptors];
        for gauge in gauges {
            this.registry.register(Box::new(gauge.clone()))?;
        }
        Ok(this)
    }

    /// Reads and returns the metrics.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        let read = |path: &str| descriptors::with_reserve(|| fs::read_to_string(path)).unwrap_or_default();
        if let Some(times) = ProcessTimes::parse(&read("/proc/self/stat")) {
            let cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
            cpu.inc_by((times.cpu_seconds - cpu.get()).max(0.0));
            if let Some(boot) = boot_time(&read("/proc/stat")) {
                self.start_time.set(boot + times.seconds_after_boot);
            }
        }
        let status = read("/proc/self/status");
        let sizes = [("VmRSS:", &self.resident), ("VmSize:", &self.virtual_memory)];
        for (name, gauge) in sizes {
            if let Some(bytes) = bytes_of(&status, name) {
                gauge.set(bytes);
            }
        }
        if let Ok(open) = descriptors::open_count() {
            self.open_descriptors.set(signed(open));
        }
        let limit = descriptors::limit();
        self.max_descriptors.set(signed(limit.unwrap_or(0)));
        let mut families = self.registry.gather();
        families.retain(|family| limit.is_some() || family.name() != "process_max_fds");
        families
    }
}

/// Times in `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct ProcessTimes {
    cpu_seconds: f64,
    seconds_after_boot: f64,
}

impl ProcessTimes {
    /// The name of the program is in parentheses and may contain anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        Some(Self {
            cpu_seconds: seconds(USER_TIME)? + seconds(SYSTEM_TIME)?,
            seconds_after_boot: seconds(START_TIME)?,
        })
    }
}

/// The boot time in `/proc/stat`, in seconds since the Unix epoch.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The bytes of a line `name: value kB` of `/proc/self/status`.
fn bytes_of(status: &str, name: &str) -> Option<i64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O3: a program name with spaces and parentheses does not shift the fields
    #[test]
    fn times_are_read_behind_the_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 8 0 1200 99 5";
        for name in ["(tidegate)", "(a b) c)", "(()"] {
            let times = ProcessTimes::parse(&format!("42 {name} {rest}"));
            assert_eq!(times, Some(ProcessTimes { cpu_seconds: 3.0, seconds_after_boot: 12.0 }), "{name}");
        }
        for bad in ["", "42 (x", "42 (x) S 1 2", "42 (x) S a b c d e f g h i j k l m n o p q r s"] {
            assert_eq!(ProcessTimes::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_and_the_boot_time_are_found_by_name() {
        let status = "Name:\tVmRSS: 1\nVmSize:\t     200 kB\nVmRSS:\t    3 kB\nVmHWM: x kB\n";
        assert_eq!(bytes_of(status, "VmRSS:"), Some(3072));
        assert_eq!(bytes_of(status, "VmSize:"), Some(204_800));
        assert_eq!((bytes_of(status, "VmHWM:"), bytes_of(status, "VmPeak:")), (None, None));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }

    /// O3: the real files have every value
    #[test]
    fn the_own_process_has_all_metrics() {
        let metrics = ProcessMetrics::register().unwrap();
        let families = metrics.gather();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_counter().get_value().max(metric.get_gauge().get_value())
        };
        assert!(value("process_start_time_seconds") > 1e9);
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
