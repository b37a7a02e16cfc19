//! Lines of name and number, as the kernel writes them in `/proc` and in cgroup files.

/// The number of a `name value` line (`memory.stat`).
pub(crate) fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        if key == name { value.trim().parse().ok() } else { None }
    })
}

/// The bytes of a `name: value kB` line (`/proc/meminfo`, `/proc/self/status`).
pub(crate) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_whole() {
        let stat = "cache 1\nrss 2\ntotal_cache 3\nslab_reclaimable 4\nslab 5\n";
        assert_eq!(number(stat, "cache"), Some(1));
        assert_eq!(number(stat, "total_cache"), Some(3));
        assert_eq!(number(stat, "slab"), Some(5));
        assert_eq!(number(stat, "shmem"), None);
        assert_eq!(kib("MemTotal:       24683520 kB\n", "MemTotal:"), Some(24_683_520 << 10));
        assert_eq!(kib("MemTotal:       some kB\n", "MemTotal:"), None);
    }
}
