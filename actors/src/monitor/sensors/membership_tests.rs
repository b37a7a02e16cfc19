//! Finding the memory cgroup in samples of real systems.

use super::*;

fn find(cgroup: &str, mountinfo: &str) -> Option<(CgroupVersion, Vec<String>)> {
    find_for(Controller::Memory, cgroup, mountinfo)
}

fn find_for(controller: Controller, cgroup: &str, mountinfo: &str) -> Option<(CgroupVersion, Vec<String>)> {
    let membership = CgroupMembership::find(controller, cgroup, mountinfo)?;
    let directories = membership.directories.iter().map(|path| path.display().to_string()).collect();
    Some((membership.version, directories))
}

fn paths(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

const V1_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const V1_CGROUP: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/outer/inner\n1:cpu:/\n0::/elsewhere\n";

/// X1: version 1, and hybrid: the memory controller is in the hierarchy of version 1
#[test]
fn a_hybrid_system_has_memory_in_version_1() {
    let expected =
        ["/sys/fs/cgroup/memory/outer/inner", "/sys/fs/cgroup/memory/outer", "/sys/fs/cgroup/memory"];
    assert_eq!(find(V1_CGROUP, V1_MOUNTS), Some((CgroupVersion::V1, paths(&expected))));
}

/// X1: the CPU controller has a hierarchy of its own, and the unified one has the pressure of the process's cgroup
#[test]
fn a_hybrid_system_has_a_hierarchy_for_each_controller() {
    let cgroup = "2:cpu,cpuacct:/quota/own\n1:memory:/\n0::/unit\n";
    let mounts = V1_MOUNTS.replace("cgroup rw,cpu", "cgroup rw,cpu,cpuacct");
    let expected = ["/sys/fs/cgroup/cpu/quota/own", "/sys/fs/cgroup/cpu/quota", "/sys/fs/cgroup/cpu"];
    assert_eq!(find_for(Controller::Cpu, cgroup, &mounts), Some((CgroupVersion::V1, paths(&expected))));
    let expected = ["/sys/fs/cgroup/unified/unit", "/sys/fs/cgroup/unified"];
    assert_eq!(find_for(Controller::Unified, cgroup, &mounts), Some((CgroupVersion::V2, paths(&expected))));
}

/// X1: version 2 of a systemd host
#[test]
fn the_unified_hierarchy_is_version_2() {
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    let expected =
        ["/sys/fs/cgroup/system.slice/tidegate.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"];
    let found = find("0::/system.slice/tidegate.service\n", mounts);
    assert_eq!(found, Some((CgroupVersion::V2, paths(&expected))));
}

/// X1: containers, with a cgroup namespace (both paths are `/`) and without (the mount's root is the container's cgroup)
#[test]
fn a_container_sees_its_own_cgroup() {
    let own = Some((CgroupVersion::V2, paths(&["/sys/fs/cgroup"])));
    let mounts = "905 904 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n";
    assert_eq!(find("0::/\n", mounts), own);

    let docker = "/docker/8d0a";
    let mounts = format!(
        "652 645 0:34 {docker} /sys/fs/cgroup/memory ro,nosuid master:17 - cgroup cgroup rw,memory\n"
    );
    let own = Some((CgroupVersion::V1, paths(&["/sys/fs/cgroup/memory"])));
    assert_eq!(find(&format!("7:cpuset,memory:{docker}\n"), &mounts), own);
    let sub = Some((CgroupVersion::V1, paths(&["/sys/fs/cgroup/memory/sub", "/sys/fs/cgroup/memory"])));
    assert_eq!(find(&format!("7:memory:{docker}/sub\n"), &mounts), sub);
}

/// X1, X4: the limits of a cgroup that the process is not in are not its own
#[test]
fn a_mount_that_does_not_show_the_cgroup_is_not_used() {
    let mounts = "652 645 0:34 /docker/8d0a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    assert_eq!(find("7:memory:/docker/8d0\n", mounts), None);
    assert_eq!(find("0::/../sibling\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), None);
    assert_eq!(find("0::/\n", "30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), None);
    assert_eq!(find("8:pids:/\n", V1_MOUNTS), None, "no memory controller");
    assert_eq!(find(V1_CGROUP, ""), None, "nothing is mounted");
}

/// X1: of several mounts the one that shows the most ancestors; escaped names
#[test]
fn the_widest_mount_wins() {
    let mounts = "\
50 23 0:26 /a /mnt/narrow rw - cgroup2 cgroup2 rw
51 23 0:26 / /mnt/wide\\040one rw - cgroup2 cgroup2 rw
";
    let expected = ["/mnt/wide one/a/b", "/mnt/wide one/a", "/mnt/wide one"];
    assert_eq!(find("0::/a/b\n", mounts), Some((CgroupVersion::V2, paths(&expected))));
}
