//! Memory of the host: `/proc/meminfo` (proc_meminfo(5)).

use crate::monitor::sensors::fields::kib;

/// Memory of the host, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostMemory {
    /// `MemTotal`
    pub(crate) total_bytes: u64,
    /// `MemTotal` less `MemAvailable`, the kernel's own estimate of what it can give out without swapping.
    pub(crate) used_bytes: u64,
}

impl HostMemory {
    /// Parses the file; none if a field is missing.
    pub(crate) fn parse(meminfo: &str) -> Option<Self> {
        let total_bytes = kib(meminfo, "MemTotal:")?;
        let available_bytes = kib(meminfo, "MemAvailable:")?;
        Some(Self { total_bytes, used_bytes: total_bytes.saturating_sub(available_bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X1: available memory counts, not free memory
    #[test]
    fn page_cache_is_not_used_memory() {
        let meminfo = "MemTotal:       24683520 kB\nMemFree:        10982400 kB\nMemAvailable:   24017000 kB\nBuffers: 1 kB\n";
        let expected = HostMemory { total_bytes: 24_683_520 << 10, used_bytes: 666_520 << 10 };
        assert_eq!(HostMemory::parse(meminfo), Some(expected));
        assert_eq!(HostMemory::parse("MemTotal:  24683520 kB\n"), None);
    }
}
