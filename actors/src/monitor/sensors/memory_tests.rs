//! The own share, nested limits and the choice of the source.

use super::*;
use crate::clock;
use crate::monitor::sensors::test_directory::TestDirectory;

const MIB: u64 = 1 << 20;

/// A process with this much anonymous memory and this much in sockets.
fn own(anonymous_mib: u64, sockets_mib: u64) -> OwnMemory {
    let process = ProcessMemory {
        rss_bytes: (anonymous_mib + 20) * MIB,
        unreclaimable_bytes: anonymous_mib * MIB,
        page_tables_bytes: MIB / 2,
        threads: 6,
        descriptor_slots: 256,
    };
    OwnMemory { process, sockets_bytes: sockets_mib * MIB, kernel_max_bytes: 4 * MIB }
}

fn level(used_mib: u64, limit_mib: u64, kernel_mib: u64) -> CgroupMemory {
    CgroupMemory { used_bytes: used_mib * MIB, limit_bytes: limit_mib * MIB, kernel_bytes: kernel_mib * MIB }
}

/// X1: socket buffers are outside the usage in version 1, and within it in version 2
#[test]
fn sockets_are_counted_once() {
    let levels = [level(60, 128, 3)];
    let v1 = own(40, 30).under_cgroups(&levels, CgroupVersion::V1).unwrap();
    assert_eq!((v1.used_bytes, v1.own_bytes), (90 * MIB, 73 * MIB));
    assert_eq!((v1.source, v1.sockets_bytes, v1.rss_bytes), (MemorySource::CgroupV1, 30 * MIB, 60 * MIB));
    let v2 = own(20, 30).under_cgroups(&levels, CgroupVersion::V2).unwrap();
    assert_eq!((v2.used_bytes, v2.own_bytes), (60 * MIB, 53 * MIB));
}

/// X2: memory of siblings and of files on a tmpfs is used, but not own memory; kernel memory is own memory up to what
/// this process can hold
#[test]
fn memory_of_others_is_not_our_share() {
    let memory = own(20, 0).under_cgroups(&[level(126, 128, 50)], CgroupVersion::V2).unwrap();
    assert_eq!((memory.used_bytes, memory.own_bytes), (126 * MIB, 24 * MIB));
    let moved_in = own(200, 0).under_cgroups(&[level(10, 128, 0)], CgroupVersion::V2).unwrap();
    assert_eq!(moved_in.own_bytes, 10 * MIB, "memory that another cgroup is charged for does not count");
}

/// X1: each level has its own usage and limit, and the highest share of the limit counts
#[test]
fn the_tightest_level_decides() {
    let crowded_outer = [level(50, 100, 0), level(950, 1000, 0)];
    let memory = own(50, 0).under_cgroups(&crowded_outer, CgroupVersion::V2).unwrap();
    assert_eq!((memory.used_bytes, memory.limit_bytes), (950 * MIB, 1000 * MIB));
    assert_eq!((memory.own_bytes, memory.own_limit_bytes), (50 * MIB, 100 * MIB));
    let tight_inner = [level(90, 100, 0), level(500, 1000, 0)];
    let memory = own(80, 0).under_cgroups(&tight_inner, CgroupVersion::V2).unwrap();
    assert_eq!((memory.used_bytes, memory.limit_bytes), (90 * MIB, 100 * MIB));
}

/// X1: without a limit the host counts, and a configured limit counts for the process alone
#[test]
fn the_host_and_a_configured_limit_replace_a_cgroup() {
    assert_eq!(own(40, 5).under_cgroups(&[], CgroupVersion::V1), None);
    let host = HostMemory { total_bytes: 1000 * MIB, used_bytes: 970 * MIB };
    let memory = own(40, 5).on_host(&host);
    assert_eq!((memory.used_bytes, memory.own_bytes), (970 * MIB, 49 * MIB));
    let memory = own(40, 5).against_configured(160 * MIB);
    assert_eq!((memory.used_bytes, memory.own_bytes, memory.limit_bytes), (65 * MIB, 65 * MIB, 160 * MIB));
}

/// X1: a limit is searched for once a second where there was none, and a limit that is known is followed with each sample
#[test]
fn a_new_limit_is_noticed_within_a_second() {
    let stat = "anon 52428800\nfile 0\nkernel 0\nshmem 0\nslab_reclaimable 0\n";
    let files = [
        ("memory.max", "max\n"),
        ("memory.high", "max\n"),
        ("memory.current", "52428800\n"),
        ("memory.stat", stat),
    ];
    let directory = TestDirectory::new("v2-review", &files);
    let mut sensor = LinuxMemory::new(None);
    sensor.refresh_membership().unwrap();
    sensor.levels = vec![CgroupLevel::new(CgroupVersion::V2, &directory.0, false)];
    let start = clock::now();
    let mut limits = |millis| {
        let levels = sensor.read_levels(8 << 30, start + Duration::from_millis(millis)).unwrap();
        levels.iter().map(|level| level.limit_bytes / MIB).collect::<Vec<_>>()
    };
    assert_eq!(limits(0), [0; 0]);
    directory.write("memory.max", "268435456\n");
    assert_eq!((limits(100), limits(999), limits(1_000)), (vec![], vec![], vec![256]));
    directory.write("memory.high", "134217728\n");
    assert_eq!(limits(1_100), [128]);
    directory.write("memory.max", "max\n");
    directory.write("memory.high", "max\n");
    assert_eq!(limits(1_200), [0; 0]);
}
