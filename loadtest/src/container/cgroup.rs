//! A memory cgroup below the caller's cgroup, of version 1 or 2 (cgroup-v1/memory.rst, cgroup-v2.rst of the kernel).

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rand::Rng as _;

/// Attempts to remove a cgroup: an ended process stays in it until the kernel has reaped it.
const REMOVE_ATTEMPTS: usize = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(50);

/// The hierarchy in which the kernel accounts memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CgroupVersion {
    One,
    Two,
}

/// A cgroup. Its drop removes it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: CgroupVersion,
    path: PathBuf,
}

/// Reads the usage of a cgroup. It may outlive the cgroup; reads then fail.
#[derive(Debug, Clone)]
pub(crate) struct CgroupMeter {
    version: CgroupVersion,
    path: PathBuf,
}

impl Cgroup {
    /// Creates a cgroup with `limit_bytes` of memory and no swap.
    pub(crate) fn create(limit_bytes: u64) -> io::Result<Self> {
        let (version, parent) = own_cgroup()?;
        if version == CgroupVersion::Two {
            delegate_memory(&parent)?;
        }
        let path = parent.join(format!("loadtest-{:08x}", rand::rng().random::<u32>()));
        fs::create_dir(&path).map_err(|cause| {
            let fix = "run as root or in a delegated cgroup";
            io::Error::new(
                cause.kind(),
                format!("cannot create the cgroup {}: {cause}; {fix}", path.display()),
            )
        })?;
        let cgroup = Self { version, path };
        cgroup.limit(limit_bytes)?;
        Ok(cgroup)
    }

    fn limit(&self, limit_bytes: u64) -> io::Result<()> {
        let limit = limit_bytes.to_string();
        let (memory, swap, swap_limit) = match self.version {
            CgroupVersion::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit.as_str()),
            CgroupVersion::Two => ("memory.max", "memory.swap.max", "0"),
        };
        fs::write(self.path.join(memory), &limit)?;
        // The file is absent if the kernel does not account swap.
        match fs::write(self.path.join(swap), swap_limit) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The version, 1 or 2.
    pub(crate) fn version(&self) -> u8 {
        match self.version {
            CgroupVersion::One => 1,
            CgroupVersion::Two => 2,
        }
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file to which process IDs are written.
    pub(crate) fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// A reader of its usage.
    pub(crate) fn meter(&self) -> CgroupMeter {
        CgroupMeter { version: self.version, path: self.path.clone() }
    }
}

impl CgroupMeter {
    /// Memory that the kernel counts for the group, in MiB.
    pub(crate) fn usage_mib(&self) -> Option<f64> {
        let name = match self.version {
            CgroupVersion::One => "memory.usage_in_bytes",
            CgroupVersion::Two => "memory.current",
        };
        let text = fs::read_to_string(self.path.join(name)).ok()?;
        Some(text.trim().parse::<u64>().ok()? as f64 / f64::from(1 << 20))
    }

    /// Number of processes that the kernel's OOM killer ended.
    pub(crate) fn oom_kills(&self) -> Option<f64> {
        let name = match self.version {
            CgroupVersion::One => "memory.oom_control",
            CgroupVersion::Two => "memory.events",
        };
        oom_kills(&fs::read_to_string(self.path.join(name)).ok()?)
    }
}

fn oom_kills(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.parse().ok())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..REMOVE_ATTEMPTS {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(REMOVE_PAUSE),
                Err(error) => return eprintln!("cannot remove {}: {error}", self.path.display()),
                Ok(()) => return,
            }
        }
        eprintln!("cannot remove {}: it still has processes", self.path.display());
    }
}

/// The cgroup version that accounts memory, and the cgroup of this process.
fn own_cgroup() -> io::Result<(CgroupVersion, PathBuf)> {
    let (groups, mounts) =
        (fs::read_to_string("/proc/self/cgroup")?, fs::read_to_string("/proc/self/mountinfo")?);
    if let Some(path) = mount_point(&groups, &mounts, "cgroup2", None) {
        let controllers = fs::read_to_string(path.join("cgroup.controllers"))?;
        if controllers.split_whitespace().any(|name| name == "memory") {
            return Ok((CgroupVersion::Two, path));
        }
    }
    mount_point(&groups, &mounts, "cgroup", Some("memory"))
        .map(|path| (CgroupVersion::One, path))
        .ok_or_else(|| io::Error::other("no memory controller is mounted in either cgroup version"))
}

/// The directory of a process's group: its path in the hierarchy, where that is mounted (cgroups(7), proc(5)).
fn mount_point(groups: &str, mounts: &str, kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let is_match = match controller {
            Some(controller) => controllers.split(',').any(|name| name == controller),
            None => controllers.is_empty(),
        };
        fields.next().filter(|_| is_match)
    })?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
        let (root, point) = (before.next()?, before.next()?);
        let is_kind = after.next()? == kind;
        let options = after.nth(1)?;
        let has = controller.is_none_or(|controller| options.split(',').any(|option| option == controller));
        let below = Path::new(own).strip_prefix(root).ok()?;
        (is_kind && has).then(|| Path::new(point).join(below))
    })
}

/// Enables the memory controller for child cgroups. A cgroup with processes cannot have such children ("no internal processes"), unless it
/// is the root, so its processes are first moved to a child.
fn delegate_memory(parent: &Path) -> io::Result<()> {
    let control = parent.join("cgroup.subtree_control");
    if fs::read_to_string(&control)?.split_whitespace().any(|name| name == "memory") {
        return Ok(());
    }
    match fs::write(&control, "+memory") {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let leaf = parent.join("loadtest-callers");
            fs::create_dir_all(&leaf)?;
            for process in fs::read_to_string(parent.join("cgroup.procs"))?.lines() {
                // An error means that the process has ended.
                let _ = fs::write(leaf.join("cgroup.procs"), process);
            }
            fs::write(&control, "+memory")
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        33 30 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        36 30 0:32 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        39 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_in_both_versions_and_below_a_namespace_root() {
        let groups = "4:memory:/docker/ab/c\n1:cpu:/\n0::/user.slice/a\n";
        let found = |kind, controller| mount_point(groups, MOUNTS, kind, controller);
        assert_eq!(found("cgroup", Some("memory")), Some(PathBuf::from("/sys/fs/cgroup/memory/c")));
        assert_eq!(found("cgroup2", None), Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice/a")));
        assert_eq!(found("cgroup", Some("pids")), None);
        assert_eq!(mount_point("4:memory:/elsewhere\n", MOUNTS, "cgroup", Some("memory")), None);
    }

    #[test]
    fn oom_kills_are_read_from_either_version() {
        let first = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let second = "low 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!([oom_kills(first), oom_kills(second), oom_kills("low 0\n")], [Some(3.0), Some(1.0), None]);
    }
}
