//! Cgroup files of real systems, and changes at run time in a directory of such files.

use super::*;
use crate::monitor::sensors::test_directory::TestDirectory;

/// A cgroup of version 1, Linux 6.18: 40 MiB of file pages of which 1 MiB is shared memory.
const V1_STAT: &str = "cache 0\nrss 0\nshmem 0\nhierarchical_memory_limit 134217728\nhierarchical_memsw_limit 134217728\n\
    total_cache 41943040\ntotal_rss 52428800\ntotal_shmem 1048576\ntotal_inactive_file 20971520\ntotal_active_file 19922944\n";
/// A cgroup of version 2, Linux 6.1.
const V2_STAT: &str = "anon 52428800\nfile 41943040\nkernel 9437184\nkernel_stack 131072\npagetables 1048576\nsec_pagetables 0\n\
    percpu 4096\nsock 4194304\nvmalloc 0\nshmem 1048576\nfile_mapped 7340032\nslab_reclaimable 2097152\nslab_unreclaimable 3145728\n\
    slab 5242880\n";
/// The same on Linux 5.15, which has no `kernel`.
const V2_STAT_OLD: &str = "anon 52428800\nfile 41943040\nkernel_stack 131072\npagetables 1048576\npercpu 4096\nsock 4194304\n\
    shmem 1048576\nslab_reclaimable 2097152\nslab_unreclaimable 3145728\nslab 5242880\n";

const MIB: u64 = 1 << 20;
const HOST: u64 = 8 << 30;

/// X1: version 1: usage less file pages, which are all pages of files but `shmem`
#[test]
fn version_1_counts_without_file_pages() {
    let directory = TestDirectory::new(
        "v1",
        &[
            ("memory.limit_in_bytes", "134217728\n"),
            ("memory.usage_in_bytes", "104857600\n"),
            ("memory.stat", V1_STAT),
            ("memory.kmem.usage_in_bytes", "9437184\n"),
        ],
    );
    let mut level = CgroupLevel::new(CgroupVersion::V1, &directory.0, true);
    let expected = CgroupMemory { used_bytes: 61 * MIB, limit_bytes: 128 * MIB, kernel_bytes: 9 * MIB };
    assert_eq!(level.read(HOST).unwrap(), Some(expected));
}

/// X1: version 1: an ancestor that is not visible in a container may have the tighter limit
#[test]
fn version_1_reads_the_limit_of_hidden_ancestors() {
    let files = [
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.usage_in_bytes", "104857600\n"),
        ("memory.stat", V1_STAT),
    ];
    let directory = TestDirectory::new("v1-hidden", &files);
    let read = |is_top: bool| CgroupLevel::new(CgroupVersion::V1, &directory.0, is_top).read(HOST).unwrap();
    let expected = CgroupMemory { used_bytes: 61 * MIB, limit_bytes: 128 * MIB, kernel_bytes: 0 };
    assert_eq!(read(true), Some(expected));
    assert_eq!(read(false), None, "a visible ancestor is read by itself");
}

/// X1: version 2: usage less file pages and reclaimable slab; socket buffers are in the usage
#[test]
fn version_2_counts_without_file_pages_and_reclaimable_slab() {
    for (name, stat, kernel_bytes) in
        [("v2", V2_STAT, 7 * MIB), ("v2-old", V2_STAT_OLD, 3 * MIB + 131_072 + MIB + 4096)]
    {
        let directory = TestDirectory::new(
            name,
            &[
                ("memory.max", "134217728\n"),
                ("memory.high", "max\n"),
                ("memory.current", "113246208\n"),
                ("memory.stat", stat),
            ],
        );
        let mut level = CgroupLevel::new(CgroupVersion::V2, &directory.0, false);
        let expected = CgroupMemory { used_bytes: 67 * MIB, limit_bytes: 128 * MIB, kernel_bytes };
        assert_eq!(level.read(HOST).unwrap(), Some(expected), "{name}");
    }
}

/// X1: limits change at run time, and `memory.high` below `memory.max` is the limit
#[test]
fn a_changed_limit_is_noticed() {
    let directory = TestDirectory::new(
        "v2-changed",
        &[
            ("memory.max", "max\n"),
            ("memory.high", "max\n"),
            ("memory.current", "113246208\n"),
            ("memory.stat", V2_STAT),
        ],
    );
    let mut level = CgroupLevel::new(CgroupVersion::V2, &directory.0, true);
    let mut limit = || level.read(HOST).unwrap().map(|memory| memory.limit_bytes);
    assert_eq!(limit(), None);
    directory.write("memory.max", "268435456\n");
    assert_eq!(limit(), Some(256 * MIB));
    directory.write("memory.high", "134217728\n");
    assert_eq!(limit(), Some(128 * MIB));
    directory.write("memory.high", "max\n");
    directory.write("memory.max", &format!("{HOST}\n"));
    assert_eq!(limit(), None, "a limit above the host's memory is no limit");
}

/// X4: files that are not as expected make the sensor unknown, a level without the controller has no limit
#[test]
fn a_broken_file_is_an_error_and_a_missing_one_is_no_limit() {
    let directory = TestDirectory::new("v2-broken", &[]);
    let mut level = CgroupLevel::new(CgroupVersion::V2, &directory.0, false);
    assert_eq!(level.read(HOST).unwrap(), None);
    directory.write("memory.max", "many\n");
    assert!(level.read(HOST).is_err());
    directory.write("memory.max", "1000\n");
    directory.write("memory.stat", "anon 5\n");
    directory.write("memory.current", "10\n");
    assert!(level.read(HOST).is_err());
}
