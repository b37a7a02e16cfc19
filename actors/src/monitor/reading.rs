//! The readings of the sensors: the input of the level machine.

use std::fmt;

use crate::monitor::measurement::{LimitSource, Measurement};
use crate::monitor::sensor::SENSORS;

/// One reading of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The sensor answered.
    Known {
        /// In the sensor's unit.
        used: u64,
        /// In the sensor's unit.
        limit: u64,
    },
    /// The sensor failed, or there is no limit.
    Unknown,
    /// This system or this configuration has nothing to measure; the reason. It is no fault of the sensor.
    Absent(&'static str),
}

impl Reading {
    /// `used` as a percentage of `limit`; none if unknown.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub fn percent(self) -> Option<f64> {
        match self {
            Self::Known { used, limit } if limit > 0 => Some(used as f64 * 100.0 / limit as f64),
            Self::Known { .. } | Self::Unknown | Self::Absent(_) => None,
        }
    }
}

/// Where the memory reading comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySource {
    /// A cgroup of version 1, the process's own or an ancestor.
    CgroupV1,
    /// A cgroup of version 2, the process's own or an ancestor.
    CgroupV2,
    /// The host: no cgroup has a limit below the host's memory.
    Host,
    /// `monitor.memory_limit_bytes`.
    Configured,
}

impl MemorySource {
    /// The word in the status document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV1 => "cgroup_v1",
            Self::CgroupV2 => "cgroup_v2",
            Self::Host => "host",
            Self::Configured => "configured",
        }
    }
}

impl From<MemorySource> for LimitSource {
    fn from(source: MemorySource) -> Self {
        match source {
            MemorySource::CgroupV1 => Self::MemoryCgroupV1,
            MemorySource::CgroupV2 => Self::MemoryCgroupV2,
            MemorySource::Host => Self::HostMemory,
            MemorySource::Configured => Self::MemoryKey,
        }
    }
}

impl fmt::Display for MemorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Memory as the kernel counts it before it kills, all in bytes. The rule is in `docs/design/memory.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use under the tightest limit, less what the kernel can reclaim.
    pub used_bytes: u64,
    /// The tightest limit: the highest `used_bytes / limit_bytes` among the cgroup and its ancestors.
    pub limit_bytes: u64,
    /// This process's own part of `used_bytes`.
    pub own_bytes: u64,
    /// The limit with the highest `own_bytes / own_limit_bytes`; mostly the same as `limit_bytes`.
    pub own_limit_bytes: u64,
    /// Socket buffers of this process in the kernel.
    pub sockets_bytes: u64,
    /// Resident set of this process, pages of files included (`VmRSS`).
    pub rss_bytes: u64,
    /// Where `used_bytes` and `limit_bytes` come from.
    pub source: MemorySource,
}

impl MemoryUse {
    /// The own share against its limit.
    fn own(&self) -> Reading {
        Reading::Known { used: self.own_bytes, limit: self.own_limit_bytes }
    }

    /// All use against the tightest limit.
    fn total(&self) -> Reading {
        Reading::Known { used: self.used_bytes, limit: self.limit_bytes }
    }
}

/// One sample: a reading of every sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Readings {
    pub(crate) memory: Option<MemoryUse>,
    pub(crate) descriptors: Measurement,
    pub(crate) in_flight: Reading,
    pub(crate) ephemeral_ports: Measurement,
    pub(crate) cpu: Measurement,
    pub(crate) cpu_throttled: Measurement,
    pub(crate) mailbox_depth: Measurement,
    pub(crate) log_backlog: Measurement,
    pub(crate) log_disk: Measurement,
}

impl Readings {
    /// Before the first sample.
    pub(crate) const NONE: Self = Self {
        memory: None,
        descriptors: Measurement::UNKNOWN,
        in_flight: Reading::Unknown,
        ephemeral_ports: Measurement::UNKNOWN,
        cpu: Measurement::UNKNOWN,
        cpu_throttled: Measurement::UNKNOWN,
        mailbox_depth: Measurement::UNKNOWN,
        log_backlog: Measurement::UNKNOWN,
        log_disk: Measurement::UNKNOWN,
    };

    /// The readings in the order of `Sensor::ALL`.
    pub(super) fn in_order(&self) -> [Reading; SENSORS] {
        let memory = self.memory.as_ref();
        let own = memory.map_or(Reading::Unknown, MemoryUse::own);
        let total = memory.map_or(Reading::Unknown, MemoryUse::total);
        [
            own,
            total,
            self.descriptors.reading,
            self.in_flight,
            self.ephemeral_ports.reading,
            self.cpu.reading,
            self.cpu_throttled.reading,
            self.mailbox_depth.reading,
            self.log_backlog.reading,
            self.log_disk.reading,
        ]
    }

    /// The measurements in the order of `Sensor::ALL`.
    pub(super) fn measurements(&self) -> [Measurement; SENSORS] {
        let source = self.memory.as_ref().map(|memory| memory.source.into());
        let of_memory = |reading| Measurement { reading, limit_source: source, ..Measurement::UNKNOWN };
        let [own, total, ..] = self.in_order();
        let in_flight = Measurement {
            reading: self.in_flight,
            limit_source: Some(LimitSource::Slots),
            ..Measurement::UNKNOWN
        };
        [
            of_memory(own),
            of_memory(total),
            self.descriptors.clone(),
            in_flight,
            self.ephemeral_ports.clone(),
            self.cpu.clone(),
            self.cpu_throttled.clone(),
            self.mailbox_depth.clone(),
            self.log_backlog.clone(),
            self.log_disk.clone(),
        ]
    }

    /// Own memory that would stay if every request in flight ended now, in percent of the limit; none if a sensor failed.
    ///
    /// This is a lower bound: each request in flight is counted with as much memory as it may hold, and all socket buffers are counted
    /// as theirs.
    pub(super) fn memory_left_by_refusing(&self) -> Option<f64> {
        let memory = self.memory.as_ref()?;
        let Reading::Known { used: in_flight, .. } = self.in_flight else { return None };
        let sockets = if in_flight == 0 { 0 } else { memory.sockets_bytes };
        let relief = in_flight.saturating_mul(REQUEST_BYTES_MAX).saturating_add(sockets);
        let left = memory.own_bytes.saturating_sub(relief);
        Reading::Known { used: left, limit: memory.own_limit_bytes }.percent()
    }
}

/// Memory that one request in flight may hold besides its sockets, in bytes. Bodies that are replayed take 64 KiB, a signed chunk at
/// most `max_chunk_size`.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
