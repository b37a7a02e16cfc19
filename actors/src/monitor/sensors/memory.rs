//! The memory sensor: the tightest limit, how much is used under it, and the process's own share.
//!
//! `used` is what the kernel counts before it kills. The own share is what this process could give back: its anonymous and shared
//! memory, its socket buffers, and its kernel memory. Memory of other processes under the same limit, and pages of files on a tmpfs,
//! are in `used` only. The rule and its sources are in `docs/design/memory.md`.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::monitor::reading::{MemorySource, MemoryUse};
use crate::monitor::sensors::cgroup::{CgroupLevel, CgroupMemory};
use crate::monitor::sensors::cgroup_membership::{CgroupMembership, CgroupVersion, Controller};
use crate::monitor::sensors::host::HostMemory;
use crate::monitor::sensors::portable::PortableMemory;
use crate::monitor::sensors::process::ProcessMemory;
use crate::monitor::sensors::socket_memory::{SocketMemory, visit};
use crate::persistent_file::{PersistentFile, read_list};

/// Kernel memory that a descriptor may take, in bytes: a connection's socket, its inode, file and event entry are about 4 KiB.
const DESCRIPTOR_KERNEL_BYTES: u64 = 8 << 10;
/// Time between two searches for the process's cgroup and for limits on levels that had none. They change seldom, and reading the files of
/// all levels is half of the work of a sample.
const REVIEW_EVERY: Duration = Duration::from_secs(1);
/// Kernel memory that a thread may take, in bytes: its stack is 16 KiB, its task structure about 10 KiB.
const THREAD_KERNEL_BYTES: u64 = 32 << 10;

/// The sensor.
#[derive(Debug)]
pub(crate) enum MemorySensor {
    /// From `/proc` and the cgroups.
    Linux(Box<LinuxMemory>),
    /// From the system's own interface.
    Portable(Box<PortableMemory>),
    /// Neither exists.
    Absent,
}

impl MemorySensor {
    pub(crate) fn open(configured_limit_bytes: Option<u64>) -> Self {
        if Path::new("/proc/self/status").exists() {
            return Self::Linux(Box::new(LinuxMemory::new(configured_limit_bytes)));
        }
        PortableMemory::open(configured_limit_bytes)
            .map_or(Self::Absent, |sensor| Self::Portable(Box::new(sensor)))
    }

    /// Sets the configured limit.
    pub(crate) fn set_limit(&mut self, configured_limit_bytes: Option<u64>) {
        match self {
            Self::Linux(linux) => linux.configured_limit_bytes = configured_limit_bytes,
            Self::Portable(portable) => portable.set_limit(configured_limit_bytes),
            Self::Absent => {}
        }
    }

    /// Takes a reading; none if a file cannot be read. `open` is the number of open descriptors.
    pub(crate) fn read(&mut self, open: Option<u64>, now: Instant) -> Option<MemoryUse> {
        match self {
            Self::Linux(linux) => linux.read(open, now).ok(),
            Self::Portable(portable) => portable.read(),
            Self::Absent => None,
        }
    }
}

/// The sensor on Linux.
#[derive(Debug)]
pub(crate) struct LinuxMemory {
    configured_limit_bytes: Option<u64>,
    status: PersistentFile,
    meminfo: PersistentFile,
    cgroup: PersistentFile,
    sockets: SocketMemory,
    /// `/proc/self/cgroup` when the levels were found.
    cgroup_text: Option<String>,
    levels: Vec<CgroupLevel>,
    version: CgroupVersion,
    /// The last search for the cgroup and for limits.
    reviewed: Option<Instant>,
}

/// What the process holds, in bytes.
#[derive(Debug, Clone, Copy)]
struct OwnMemory {
    process: ProcessMemory,
    sockets_bytes: u64,
    /// The maximum of kernel memory that this process can hold.
    kernel_max_bytes: u64,
}

impl LinuxMemory {
    fn new(configured_limit_bytes: Option<u64>) -> Self {
        Self {
            configured_limit_bytes,
            status: PersistentFile::new("/proc/self/status"),
            meminfo: PersistentFile::new("/proc/meminfo"),
            cgroup: PersistentFile::new("/proc/self/cgroup"),
            sockets: SocketMemory::default(),
            cgroup_text: None,
            levels: Vec::new(),
            version: CgroupVersion::V2,
            reviewed: None,
        }
    }

    fn read(&mut self, open: Option<u64>, now: Instant) -> io::Result<MemoryUse> {
        let process = ProcessMemory::parse(&self.status.read()?).ok_or_else(missing_field)?;
        let own = OwnMemory {
            process,
            sockets_bytes: self.sockets.sample(open, process.descriptor_slots, visit),
            kernel_max_bytes: open
                .unwrap_or(0)
                .saturating_mul(DESCRIPTOR_KERNEL_BYTES)
                .saturating_add(process.threads.saturating_mul(THREAD_KERNEL_BYTES))
                .saturating_add(process.page_tables_bytes),
        };
        if let Some(limit_bytes) = self.configured_limit_bytes {
            return Ok(own.against_configured(limit_bytes));
        }
        let host = HostMemory::parse(&self.meminfo.read()?).ok_or_else(missing_field)?;
        let limited = self.read_levels(host.total_bytes, now)?;
        Ok(own.under_cgroups(&limited, self.version).unwrap_or_else(|| own.on_host(&host)))
    }

    /// The levels with a limit. Those that had none at the last review are skipped until the next.
    fn read_levels(&mut self, limit_max_bytes: u64, now: Instant) -> io::Result<Vec<CgroupMemory>> {
        let is_due =
            self.reviewed.is_none_or(|reviewed| now.saturating_duration_since(reviewed) >= REVIEW_EVERY);
        if is_due {
            // A failed review is repeated with the next sample.
            self.reviewed = None;
            self.refresh_membership()?;
        }
        let mut limited = Vec::new();
        for level in &mut self.levels {
            if is_due || level.has_limit() {
                limited.extend(level.read(limit_max_bytes)?);
            }
        }
        self.reviewed = if is_due { Some(now) } else { self.reviewed };
        Ok(limited)
    }

    /// Finds the cgroup again if the process was moved to another one.
    fn refresh_membership(&mut self) -> io::Result<()> {
        let text = self.cgroup.read_if_present()?;
        if text == self.cgroup_text {
            return Ok(());
        }
        let mountinfo = read_list("/proc/self/mountinfo")?;
        let membership =
            text.as_deref().and_then(|text| CgroupMembership::find(Controller::Memory, text, &mountinfo));
        let Some(CgroupMembership { version, directories }) = membership else {
            self.levels = Vec::new();
            self.cgroup_text = text;
            return Ok(());
        };
        let top = directories.len().saturating_sub(1);
        let levels = directories.iter().enumerate();
        self.levels =
            levels.map(|(depth, directory)| CgroupLevel::new(version, directory, depth == top)).collect();
        self.version = version;
        self.cgroup_text = text;
        Ok(())
    }
}

fn missing_field() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file of /proc has no field of an expected name")
}

impl OwnMemory {
    /// Own memory when the kernel memory of all processes under the limit is `kernel_bytes`.
    fn bytes(&self, kernel_bytes: u64) -> u64 {
        let kernel = kernel_bytes.min(self.kernel_max_bytes);
        self.process.unreclaimable_bytes.saturating_add(self.sockets_bytes).saturating_add(kernel)
    }

    /// Among the levels with a limit, the one with the highest pressure counts; none if none has a limit.
    fn under_cgroups(&self, levels: &[CgroupMemory], version: CgroupVersion) -> Option<MemoryUse> {
        let uncharged = if version == CgroupVersion::V1 { self.sockets_bytes } else { 0 };
        let levels = levels.iter().map(|level| {
            let used_bytes = level.used_bytes.saturating_add(uncharged);
            let own_bytes = self.bytes(level.kernel_bytes).min(used_bytes);
            (level.limit_bytes, used_bytes, own_bytes)
        });
        let (limit_bytes, used_bytes, _) =
            levels.clone().max_by(|a, b| share(a.1, a.0).total_cmp(&share(b.1, b.0)))?;
        let (own_limit_bytes, _, own_bytes) =
            levels.max_by(|a, b| share(a.2, a.0).total_cmp(&share(b.2, b.0)))?;
        Some(MemoryUse {
            used_bytes,
            limit_bytes,
            own_bytes,
            own_limit_bytes,
            sockets_bytes: self.sockets_bytes,
            rss_bytes: self.process.rss_bytes,
            source: version.into(),
        })
    }

    fn on_host(&self, host: &HostMemory) -> MemoryUse {
        MemoryUse {
            used_bytes: host.used_bytes,
            limit_bytes: host.total_bytes,
            own_bytes: self.bytes(self.kernel_max_bytes).min(host.used_bytes),
            own_limit_bytes: host.total_bytes,
            sockets_bytes: self.sockets_bytes,
            rss_bytes: self.process.rss_bytes,
            source: MemorySource::Host,
        }
    }

    /// Against a configured limit the process alone counts, as `ps` shows it, and its socket buffers.
    fn against_configured(&self, limit_bytes: u64) -> MemoryUse {
        let used_bytes = self.process.rss_bytes.saturating_add(self.sockets_bytes);
        MemoryUse {
            used_bytes,
            limit_bytes,
            own_bytes: used_bytes,
            own_limit_bytes: limit_bytes,
            sockets_bytes: self.sockets_bytes,
            rss_bytes: self.process.rss_bytes,
            source: MemorySource::Configured,
        }
    }
}

/// Ratio of use to limit. A limit of 0 counts as 1.
#[expect(clippy::cast_precision_loss, reason = "only compared")]
fn share(used_bytes: u64, limit_bytes: u64) -> f64 {
    used_bytes as f64 / limit_bytes.max(1) as f64
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
