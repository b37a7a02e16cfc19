//! A reading with its context: the origin of its limit, what was measured, and when.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::monitor::reading::Reading;

/// Where the limit of a reading comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSource {
    /// `monitor.memory_limit_bytes`
    MemoryKey,
    /// A memory cgroup of version 1.
    MemoryCgroupV1,
    /// A memory cgroup of version 2.
    MemoryCgroupV2,
    /// The memory of the host.
    HostMemory,
    /// `monitor.descriptor_limit`
    DescriptorKey,
    /// The soft limit of open files.
    OpenFiles,
    /// `server.max_concurrent_requests`
    Slots,
    /// The range of local ports, without reserved ones.
    PortRange,
    /// `monitor.cpu_pressure_limit`
    PressureKey,
    /// All of the time: no limit but the end of the scale.
    AllOfTheTime,
    /// `supervision.mailbox_capacity`
    MailboxKey,
    /// The capacity of the log buffer.
    LogBuffer,
    /// The file system of the log, at most 1 GiB of it.
    FileSystem,
}

impl LimitSource {
    /// The text in the status document: a key of the configuration, a limit of the process, a file of the kernel, or a capacity.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemoryKey => "monitor.memory_limit_bytes",
            Self::MemoryCgroupV1 => "cgroup v1: memory.limit_in_bytes",
            Self::MemoryCgroupV2 => "cgroup v2: memory.max, memory.high",
            Self::HostMemory => "/proc/meminfo: MemTotal",
            Self::DescriptorKey => "monitor.descriptor_limit",
            Self::OpenFiles => "RLIMIT_NOFILE",
            Self::Slots => "server.max_concurrent_requests",
            Self::PortRange => "/proc/sys/net/ipv4/ip_local_port_range",
            Self::PressureKey => "monitor.cpu_pressure_limit",
            Self::AllOfTheTime => "percent of the time",
            Self::MailboxKey => "supervision.mailbox_capacity",
            Self::LogBuffer => "capacity of the log buffer",
            Self::FileSystem => "file system of log.output, at most 1 GiB",
        }
    }
}

/// What a sensor measured, where there are several of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The upstream address with the most ports.
    Destination(SocketAddr),
    /// The actor with the fullest mailbox.
    Actor(Arc<str>),
    /// The file of the kernel that has the reading.
    File(&'static str),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destination(address) => write!(f, "{address}"),
            Self::Actor(name) => f.write_str(name),
            Self::File(name) => f.write_str(name),
        }
    }
}

/// A reading with its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measurement {
    pub(crate) reading: Reading,
    /// None if the reading has no limit.
    pub(crate) limit_source: Option<LimitSource>,
    pub(crate) subject: Option<Subject>,
    /// When it was measured; none if with the sample.
    pub(crate) taken: Option<Instant>,
}

impl Measurement {
    /// The sensor failed.
    pub(crate) const UNKNOWN: Self =
        Self { reading: Reading::Unknown, limit_source: None, subject: None, taken: None };

    /// A use of a limit.
    pub(crate) fn known(used: u64, limit: u64, source: LimitSource) -> Self {
        Self { reading: Reading::Known { used, limit }, limit_source: Some(source), ..Self::UNKNOWN }
    }

    /// Nothing can be measured here, and that is no fault.
    pub(crate) fn absent(why: &'static str) -> Self {
        Self { reading: Reading::Absent(why), ..Self::UNKNOWN }
    }

    /// Names what was measured.
    pub(crate) fn about(self, subject: Option<Subject>) -> Self {
        Self { subject, ..self }
    }
}
