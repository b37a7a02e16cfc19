//! Memory of one cgroup as the kernel counts it before it kills, in both versions of the hierarchy.
//!
//! The kernel kills only after it has reclaimed everything reclaimable. So pages of files do not count, except
//! `shmem` (tmpfs and shared memory, which no file backs), nor does reclaimable slab. Version 1 does not report
//! reclaimable slab, and it does not charge socket buffers: the caller adds its own.

use std::io;
use std::path::Path;

use crate::monitor::sensors::cgroup_membership::CgroupVersion;
use crate::monitor::sensors::fields::number;
use crate::persistent_file::PersistentFile;

/// One cgroup's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CgroupMemory {
    /// Charged, less what can be reclaimed.
    pub(crate) used_bytes: u64,
    /// The limit.
    pub(crate) limit_bytes: u64,
    /// Kernel memory in `used_bytes`, without socket buffers.
    pub(crate) kernel_bytes: u64,
}

/// One level of the hierarchy: its files stay open.
#[derive(Debug)]
pub(crate) struct CgroupLevel {
    version: CgroupVersion,
    limits: Vec<PersistentFile>,
    usage: PersistentFile,
    stat: PersistentFile,
    kernel: Option<PersistentFile>,
    /// The highest visible level of version 1 also reports the limits of the ancestors that are not visible.
    is_top: bool,
    /// Whether the last reading found a limit.
    has_limit: bool,
}

impl CgroupLevel {
    pub(crate) fn new(version: CgroupVersion, directory: &Path, is_top: bool) -> Self {
        let file = |name: &str| PersistentFile::new(directory.join(name));
        let stat = file("memory.stat");
        match version {
            CgroupVersion::V1 => Self {
                version,
                limits: vec![file("memory.limit_in_bytes")],
                usage: file("memory.usage_in_bytes"),
                stat,
                kernel: Some(file("memory.kmem.usage_in_bytes")),
                is_top,
                has_limit: false,
            },
            // Above `memory.high` the kernel throttles the processes until they use less, which stops a gateway like
            // a kill.
            CgroupVersion::V2 => Self {
                version,
                limits: vec![file("memory.max"), file("memory.high")],
                usage: file("memory.current"),
                stat,
                kernel: None,
                is_top,
                has_limit: false,
            },
        }
    }

    /// Whether the last reading found a limit.
    pub(crate) fn has_limit(&self) -> bool {
        self.has_limit
    }

    /// Takes a reading; none if this level has no limit below `limit_max_bytes`.
    pub(crate) fn read(&mut self, limit_max_bytes: u64) -> io::Result<Option<CgroupMemory>> {
        let found = self.read_limited(limit_max_bytes)?;
        self.has_limit = found.is_some();
        Ok(found)
    }

    fn read_limited(&mut self, limit_max_bytes: u64) -> io::Result<Option<CgroupMemory>> {
        let mut limit_bytes = u64::MAX;
        for file in &mut self.limits {
            if let Some(text) = file.read_if_present()? {
                limit_bytes = limit_bytes.min(parse_limit(&text)?);
            }
        }
        let may_hide_a_limit = self.is_top && self.version == CgroupVersion::V1;
        if limit_bytes >= limit_max_bytes && !may_hide_a_limit {
            return Ok(None);
        }
        let Some(stat) = self.stat.read_if_present()? else { return Ok(None) };
        if may_hide_a_limit {
            limit_bytes = limit_bytes.min(number(&stat, "hierarchical_memory_limit").unwrap_or(u64::MAX));
        }
        if limit_bytes >= limit_max_bytes {
            return Ok(None);
        }
        let usage_bytes = parse_bytes(&self.usage.read()?)?;
        let stat = Stat::parse(self.version, &stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "memory.stat lacks a field"))?;
        let kernel_bytes = match &mut self.kernel {
            None => stat.kernel_bytes,
            // A kernel without accounting of kernel memory has no such file.
            Some(file) => file.read_if_present()?.map_or(Ok(0), |text| parse_bytes(&text))?,
        };
        let used_bytes = usage_bytes.saturating_sub(stat.reclaimable_bytes);
        Ok(Some(CgroupMemory { used_bytes, limit_bytes, kernel_bytes: kernel_bytes.min(used_bytes) }))
    }
}

/// `max`, or a number of bytes; version 1 writes a number beyond all memory for no limit.
fn parse_limit(text: &str) -> io::Result<u64> {
    if text.trim() == "max" { Ok(u64::MAX) } else { parse_bytes(text) }
}

fn parse_bytes(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The needed part of `memory.stat`, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    reclaimable_bytes: u64,
    kernel_bytes: u64,
}

impl Stat {
    fn parse(version: CgroupVersion, stat: &str) -> Option<Self> {
        let field = |name: &str| number(stat, name);
        match version {
            // `total_` counts the cgroups below too. `cache` is all pages of files, shmem among them.
            CgroupVersion::V1 => {
                let files = field("total_cache")?.saturating_sub(field("total_shmem")?);
                Some(Self { reclaimable_bytes: files, kernel_bytes: 0 })
            }
            CgroupVersion::V2 => {
                let slab = field("slab_reclaimable").unwrap_or(0);
                let files = field("file")?.saturating_sub(field("shmem")?);
                // `kernel` is the sum since Linux 5.18.
                let parts = ["kernel_stack", "pagetables", "percpu", "slab"];
                let kernel = field("kernel").unwrap_or_else(|| parts.into_iter().filter_map(field).sum());
                Some(Self {
                    reclaimable_bytes: files.saturating_add(slab),
                    kernel_bytes: kernel.saturating_sub(slab),
                })
            }
        }
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
