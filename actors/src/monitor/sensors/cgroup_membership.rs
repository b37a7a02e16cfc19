//! Finds the cgroup of this process for a controller, and its visible ancestors.
//!
//! `/proc/self/cgroup` names the cgroup, relative to the root of the cgroup namespace (cgroups(7),
//! cgroup_namespaces(7)). `/proc/self/mountinfo` has the mount point of each hierarchy and the directory that is the
//! root of the mount (proc_pid_mountinfo(5)): in a container without its own namespace that is the container's own
//! cgroup.

use std::path::{Path, PathBuf};

use crate::monitor::reading::MemorySource;

/// Levels of the hierarchy that are read at most.
const LEVELS_MAX: usize = 32;

/// Version of the cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupVersion {
    /// `Documentation/admin-guide/cgroup-v1/memory.rst`
    V1,
    /// `Documentation/admin-guide/cgroup-v2.rst`
    V2,
}

impl From<CgroupVersion> for MemorySource {
    fn from(version: CgroupVersion) -> Self {
        match version {
            CgroupVersion::V1 => Self::CgroupV1,
            CgroupVersion::V2 => Self::CgroupV2,
        }
    }
}

/// What a cgroup is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    /// The unified hierarchy, which has files of every process also where controllers are in hierarchies of version 1.
    Unified,
}

impl Controller {
    /// The name in version 1, as in `/proc/self/cgroup` and in the options of mounts.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory"),
            Self::Cpu => Some("cpu"),
            Self::Unified => None,
        }
    }
}

/// The directories of the process's cgroup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CgroupMembership {
    pub(crate) version: CgroupVersion,
    /// The cgroup first, then its ancestors up to the root of the mount.
    pub(crate) directories: Vec<PathBuf>,
}

impl CgroupMembership {
    /// Parses both files; none if no hierarchy with the controller is visible.
    pub(crate) fn find(controller: Controller, cgroup: &str, mountinfo: &str) -> Option<Self> {
        let (version, path) = path_of(controller, cgroup)?;
        let mounts = mountinfo.lines().filter_map(|line| Mount::parse(controller, line));
        let mounts = mounts.filter(|mount| mount.version == version);
        // The mount with the shortest root shows the most ancestors.
        let visible = mounts.filter_map(|mount| Some((below(&path, &mount.root)?, mount)));
        let (relative, mount) = visible.min_by_key(|(_, mount)| mount.root.as_os_str().len())?;
        let leaf: PathBuf = mount.point.join(relative).components().collect();
        let directories = leaf.ancestors().take_while(|directory| directory.starts_with(&mount.point));
        Some(Self { version, directories: directories.take(LEVELS_MAX).map(Path::to_path_buf).collect() })
    }
}

/// The hierarchy that has the controller, and the path of the process in it. On a hybrid system the unified hierarchy exists beside
/// those of version 1 and does not have their controllers.
fn path_of(controller: Controller, cgroup: &str) -> Option<(CgroupVersion, PathBuf)> {
    let entries =
        || cgroup.lines().filter_map(|line| line.splitn(3, ':').collect::<Vec<_>>().try_into().ok());
    let v1 = entries().find(|[_, controllers, _]: &[&str; 3]| {
        controller.name().is_some_and(|name| controllers.split(',').any(|one| one == name))
    });
    if let Some([_, _, path]) = v1 {
        return Some((CgroupVersion::V1, path.into()));
    }
    let v2 = entries().find(|[number, controllers, _]: &[&str; 3]| *number == "0" && controllers.is_empty());
    v2.map(|[_, _, path]| (CgroupVersion::V2, path.into()))
}

/// The path from a mount's root down to the process's cgroup; none if the mount does not contain it. `..` means a
/// directory outside the namespace.
fn below(path: &Path, root: &Path) -> Option<PathBuf> {
    let is_outside = |path: &Path| path.components().any(|part| part.as_os_str() == "..");
    if is_outside(path) || is_outside(root) {
        return None;
    }
    path.strip_prefix(root).ok().map(Path::to_path_buf)
}

/// A mounted cgroup hierarchy with the controller, or the unified one.
struct Mount {
    version: CgroupVersion,
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn parse(controller: Controller, line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let version = match filesystem.next()? {
            "cgroup" => CgroupVersion::V1,
            "cgroup2" => CgroupVersion::V2,
            _ => return None,
        };
        let options = filesystem.nth(1)?;
        let has_controller =
            || controller.name().is_some_and(|name| options.split(',').any(|option| option == name));
        if version == CgroupVersion::V1 && !has_controller() {
            return None;
        }
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        Some(Self { version, root: unescaped(root).into(), point: unescaped(point).into() })
    }
}

/// Space, tab, line feed and backslash are written as octal numbers.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
