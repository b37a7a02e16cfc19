//! The measured resources: their names, units, and the highest level that each may cause.

use crate::monitor::level::{Level, LevelThresholds};

/// A measured resource. The order is that of the readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensor {
    /// This process's own share of the memory limit.
    Memory,
    /// Memory in use under the limit, by this process and by all others together.
    MemoryTotal,
    /// Open descriptors of this process.
    Descriptors,
    /// Requests in flight.
    InFlight,
    /// Local ports in use for the busiest upstream address, those in TIME_WAIT among them.
    EphemeralPorts,
    /// CPU pressure: share of time in which a runnable task waited for a processor.
    Cpu,
    /// Share of time in which the CPU quota of the cgroup held the process.
    CpuThrottled,
    /// Messages in the fullest mailbox.
    MailboxDepth,
    /// Bytes that wait for the log writer.
    LogBacklog,
    /// Used part of the space for the log.
    LogDisk,
}

/// Number of sensors.
pub(crate) const SENSORS: usize = 10;

impl Sensor {
    /// All sensors, in the order of the readings.
    pub(crate) const ALL: [Self; SENSORS] = [
        Self::Memory,
        Self::MemoryTotal,
        Self::Descriptors,
        Self::InFlight,
        Self::EphemeralPorts,
        Self::Cpu,
        Self::CpuThrottled,
        Self::MailboxDepth,
        Self::LogBacklog,
        Self::LogDisk,
    ];

    /// The word in the status document, in metrics and in reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::MemoryTotal => "memory_total",
            Self::Descriptors => "descriptors",
            Self::InFlight => "in_flight",
            Self::EphemeralPorts => "ephemeral_ports",
            Self::Cpu => "cpu",
            Self::CpuThrottled => "cpu_throttled",
            Self::MailboxDepth => "mailbox_depth",
            Self::LogBacklog => "log_backlog",
            Self::LogDisk => "log_disk",
        }
    }

    /// What the sensor reads.
    pub fn source(self) -> &'static str {
        match self {
            Self::Memory | Self::MemoryTotal => {
                "/proc/self/status, /proc/meminfo and the files of its memory cgroup"
            }
            Self::Descriptors => "/proc/self/fd",
            Self::EphemeralPorts => "/proc/sys/net/ipv4/ip_local_port_range",
            Self::Cpu => "/proc/pressure/cpu and cpu.pressure of its cgroup",
            Self::CpuThrottled => "cpu.stat of its cgroup",
            Self::LogDisk => "the file system of log.output",
            Self::InFlight | Self::MailboxDepth | Self::LogBacklog => "its own counters",
        }
    }

    /// The unit of use and limit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Memory | Self::MemoryTotal | Self::LogBacklog | Self::LogDisk => "bytes",
            Self::Descriptors => "descriptors",
            Self::InFlight => "requests",
            Self::EphemeralPorts => "ports",
            Self::Cpu | Self::CpuThrottled => "%",
            Self::MailboxDepth => "messages",
        }
    }

    /// The highest level that the sensor may cause (X2). Only refusals of all requests free memory and descriptors. Requests in flight
    /// have a hard cap of their own. Ports belong to one destination, and other buckets must not pay for it; without retries and hedges
    /// fewer are needed. Memory of other processes, a mailbox and the log only warn, because refusals do not end their shortage.
    pub fn level_max(self) -> Level {
        match self {
            Self::Memory | Self::Descriptors => Level::Exhausted,
            Self::InFlight | Self::EphemeralPorts | Self::CpuThrottled => Level::Critical,
            Self::MemoryTotal | Self::Cpu | Self::MailboxDepth | Self::LogBacklog | Self::LogDisk => {
                Level::Warning
            }
        }
    }

    /// Whether refusing requests ends this level of the sensor (X8). Only a sensor that requests raise is lowered by refusing
    /// them: memory, if without the requests in flight it would be below the level. `left` is that rest in percent of the limit.
    /// Memory of other processes, and a full disk, are not.
    pub(crate) fn is_relieved_by_refusals(
        self,
        level: Level,
        left: Option<f64>,
        thresholds: &LevelThresholds,
    ) -> bool {
        match self {
            Self::Memory => left.is_none_or(|percent| thresholds.level_kept(percent) < level),
            Self::MemoryTotal | Self::LogDisk => false,
            Self::Descriptors
            | Self::InFlight
            | Self::EphemeralPorts
            | Self::Cpu
            | Self::CpuThrottled
            | Self::MailboxDepth
            | Self::LogBacklog => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::MonitorConfig;

    use super::*;

    /// X8: memory that no request holds, memory of other processes and a full disk are not relieved by refusals
    #[test]
    fn refusals_relieve_what_requests_raise() {
        let config = MonitorConfig::default();
        let thresholds = LevelThresholds::from(&config);
        let is_relieved =
            |sensor: Sensor, level, left| sensor.is_relieved_by_refusals(level, left, &thresholds);
        for level in [Level::Warning, Level::Critical, Level::Exhausted] {
            let ends_below = f64::from(level.ends_below(&config));
            for sensor in Sensor::ALL {
                let expected = !matches!(sensor, Sensor::MemoryTotal | Sensor::LogDisk);
                for left in [None, Some(ends_below - 1.0)] {
                    assert_eq!(is_relieved(sensor, level, left), expected, "{sensor:?} {level:?} {left:?}");
                }
                let expected = expected && sensor != Sensor::Memory;
                assert_eq!(is_relieved(sensor, level, Some(ends_below)), expected, "{sensor:?} {level:?}");
            }
        }
    }
}
