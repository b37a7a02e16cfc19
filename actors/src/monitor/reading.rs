//! Sensors and their readings: the input of the level machine.

use std::fmt;

use crate::monitor::level::Level;

/// A measured resource.
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
}

/// Number of sensors.
pub(crate) const SENSORS: usize = 4;

impl Sensor {
    /// The word in the status document and in reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::MemoryTotal => "memory_total",
            Self::Descriptors => "descriptors",
            Self::InFlight => "in_flight",
        }
    }

    /// The highest level that the sensor may cause (X2). Memory of other processes only warns, because refusing requests frees none
    /// of it. Requests in flight have a hard cap of their own.
    pub(super) fn level_max(self) -> Level {
        match self {
            Self::Memory | Self::Descriptors => Level::Exhausted,
            Self::MemoryTotal => Level::Warning,
            Self::InFlight => Level::Critical,
        }
    }
}

/// One reading of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The sensor answered.
    Known {
        /// In the sensor's unit: bytes, descriptors or requests.
        used: u64,
        /// In the sensor's unit.
        limit: u64,
    },
    /// The sensor failed, or there is no limit.
    Unknown,
}

impl Reading {
    /// `used` as a percentage of `limit`; none if unknown.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub fn percent(self) -> Option<f64> {
        match self {
            Self::Known { used, limit } if limit > 0 => Some(used as f64 * 100.0 / limit as f64),
            Self::Known { .. } | Self::Unknown => None,
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

/// One sample: a reading of every sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readings {
    pub(crate) memory: Option<MemoryUse>,
    pub(crate) descriptors: Reading,
    pub(crate) in_flight: Reading,
}

impl Readings {
    /// Before the first sample.
    pub(crate) const NONE: Self =
        Self { memory: None, descriptors: Reading::Unknown, in_flight: Reading::Unknown };

    pub(super) fn by_sensor(&self) -> [(Sensor, Reading); SENSORS] {
        let Self { memory, descriptors, in_flight } = *self;
        let known = |used: fn(&MemoryUse) -> u64, limit: fn(&MemoryUse) -> u64| {
            memory.as_ref().map_or(Reading::Unknown, |memory| Reading::Known {
                used: used(memory),
                limit: limit(memory),
            })
        };
        [
            (Sensor::Memory, known(|memory| memory.own_bytes, |memory| memory.own_limit_bytes)),
            (Sensor::MemoryTotal, known(|memory| memory.used_bytes, |memory| memory.limit_bytes)),
            (Sensor::Descriptors, descriptors),
            (Sensor::InFlight, in_flight),
        ]
    }

    /// Own memory that would stay if every request in flight ended now, in percent of the limit; none if a sensor failed.
    ///
    /// This is a lower bound: each request in flight is counted with as much memory as it may hold, and all socket buffers are counted
    /// as theirs.
    pub(super) fn memory_left_by_refusing(&self) -> Option<f64> {
        let memory = self.memory?;
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
