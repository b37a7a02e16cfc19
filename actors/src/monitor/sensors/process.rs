//! Memory of this process by kind: `/proc/self/status` (proc_pid_status(5)).

use crate::monitor::sensors::fields::kib;

/// Memory of the process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessMemory {
    /// `VmRSS`: resident, pages of files included.
    pub(crate) rss_bytes: u64,
    /// `RssAnon` and `RssShmem`: resident and not backed by a file, so that the kernel cannot drop them.
    pub(crate) unreclaimable_bytes: u64,
    /// `VmPTE`: page tables, which are charged as kernel memory.
    pub(crate) page_tables_bytes: u64,
    /// Number of threads.
    pub(crate) threads: u64,
    /// `FDSize`: size of the descriptor table. Every descriptor number is below it.
    pub(crate) descriptor_slots: u64,
}

impl ProcessMemory {
    /// Parses the file; none if a field is missing.
    pub(crate) fn parse(status: &str) -> Option<Self> {
        let count = |name| status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
        Some(Self {
            rss_bytes: kib(status, "VmRSS:")?,
            unreclaimable_bytes: kib(status, "RssAnon:")?.saturating_add(kib(status, "RssShmem:")?),
            page_tables_bytes: kib(status, "VmPTE:")?,
            threads: count("Threads:")?,
            descriptor_slots: count("FDSize:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\ttidegate\nFDSize:\t256\nVmPeak:\t 2194984 kB\nVmHWM:\t  169084 kB\nVmRSS:\t  167996 kB\n\
        RssAnon:\t  146308 kB\nRssFile:\t   21684 kB\nRssShmem:\t       4 kB\nVmPTE:\t     592 kB\nVmSwap:\t       0 kB\n\
        Threads:\t7\nSigQ:\t0/95834\n";

    /// X1
    #[test]
    fn the_status_file_is_read_by_field() {
        let expected = ProcessMemory {
            rss_bytes: 167_996 << 10,
            unreclaimable_bytes: 146_312 << 10,
            page_tables_bytes: 592 << 10,
            threads: 7,
            descriptor_slots: 256,
        };
        assert_eq!(ProcessMemory::parse(STATUS), Some(expected));
    }

    /// X4: a kernel without these fields makes the sensor unknown
    #[test]
    fn a_missing_field_is_unknown() {
        for field in ["VmRSS", "RssAnon", "RssShmem", "VmPTE", "Threads", "FDSize"] {
            assert_eq!(ProcessMemory::parse(&STATUS.replace(field, "Other")), None, "{field}");
        }
    }
}
