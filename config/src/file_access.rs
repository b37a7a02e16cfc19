//! Access of other users to a file (C5).
//!
//! Platforms mount secrets with modes that allow every user of the container to read them: Kubernetes 0644 behind symbolic links,
//! Docker and Compose 0444 in `/run/secrets`. There the container keeps other users out. So a file that others can read is accepted on
//! a read-only mount, and on a memory file system (tmpfs, ramfs) with a root directory that others cannot write, unlike `/tmp` and
//! `/dev/shm`. In addition, no directory of its path may let others replace an entry. A file that others can write is never accepted.
//!
//! "Others" are the last three bits of the mode. The group is trusted: the owner has granted it access.
//!
//! Sources: proc_pid_mountinfo(5), proc_pid_fdinfo(5), inode(7) for the sticky bit. Without `/proc` no mount is known, and a file that
//! others can read is rejected.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, fstatvfs, statvfs};
use rustix::process::geteuid;

const WRITE_BY_OTHERS: u32 = 0o002;
const READ_BY_OTHERS: u32 = 0o005;
const STICKY: u32 = 0o1000;
/// The limit of Linux (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// How other users can reach a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposure {
    /// its mode allows others to read it, and its mount does not keep them out
    Readable {
        /// permission bits
        mode: u32,
    },
    /// its mode allows others to write it
    Writable {
        /// permission bits
        mode: u32,
    },
    /// it belongs to another user than root and the gateway's
    Foreign {
        /// user ID
        owner: u32,
    },
    /// others can replace it by another file
    Replaceable {
        /// the directory that others can write
        directory: PathBuf,
    },
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readable { mode } => write!(f, "can be read by other users (mode {mode:04o})"),
            Self::Writable { mode } => write!(f, "can be written by other users (mode {mode:04o})"),
            Self::Foreign { owner } => write!(f, "belongs to another user (ID {owner})"),
            Self::Replaceable { directory } => {
                write!(f, "can be replaced by other users, who can write to {}", directory.display())
            }
        }
    }
}

impl Exposure {
    /// The fix for the operator, by platform.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Readable { .. } => {
                "on a host chmod 600 it, or 640 with a group of its own; in Kubernetes mount a secret volume, which \
                 is read-only, or set defaultMode 0440 with fsGroup; in Docker and Compose use secrets, or a \
                 read-only mount"
            }
            Self::Writable { .. } => "chmod 600 it, or 640 with a group of its own",
            Self::Foreign { .. } => "chown it to root or to the user of the gateway, or mount it read-only",
            Self::Replaceable { .. } => {
                "chmod o-w the directory and chown it to root or to the user of the gateway, or move the file"
            }
        }
    }
}

/// The mount of an open file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    is_read_only: bool,
    is_memory: bool,
}

/// A directory of a path, and the owner of the next entry of the path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    directory: PathBuf,
    mode: u32,
    owner: u32,
    is_read_only: bool,
    entry_owner: u32,
}

impl Step {
    /// Whether others can replace the entry. In a sticky directory only its owner can.
    fn is_replaceable(&self, own_user: u32) -> bool {
        let is_kept = self.mode & STICKY != 0 && [0, own_user].contains(&self.entry_owner);
        self.mode & WRITE_BY_OTHERS != 0 && !self.is_read_only && !is_kept
    }

    /// Whether the directory belongs to another user than root and this one, who can replace the entry.
    fn is_foreign(&self, own_user: u32) -> bool {
        !self.is_read_only && ![0, own_user].contains(&self.owner)
    }
}

/// The properties of a file that decide whether other users can reach it.
struct Facts {
    mode: u32,
    mount: Option<Mount>,
    /// mode of the mount's root directory
    root_mode: u32,
    steps: Vec<Step>,
    own_user: u32,
}

fn classify(facts: &Facts) -> Option<Exposure> {
    let Facts { mode, mount, root_mode, steps, own_user } = facts;
    let mode = mode & 0o7777;
    if mode & WRITE_BY_OTHERS != 0 {
        return Some(Exposure::Writable { mode });
    }
    if mode & READ_BY_OTHERS == 0 {
        return None;
    }
    let is_closed_memory = |mount: &Mount| mount.is_memory && root_mode & WRITE_BY_OTHERS == 0;
    if !mount.as_ref().is_some_and(|mount| mount.is_read_only || is_closed_memory(mount)) {
        return Some(Exposure::Readable { mode });
    }
    let open = steps.iter().find(|step| step.is_replaceable(*own_user))?;
    Some(Exposure::Replaceable { directory: open.directory.clone() })
}

/// How others can reach an open file; none if they cannot. The file was opened by `path`.
pub(crate) fn exposure(file: &File, path: &Path) -> io::Result<Option<Exposure>> {
    let mode = file.metadata()?.mode();
    let own_user = geteuid().as_raw();
    let mut facts = Facts { mode, mount: None, root_mode: 0, steps: Vec::new(), own_user };
    if mode & READ_BY_OTHERS != 0
        && let Some(mount) = mount_of(file)
        && let Ok(root) = fs::metadata(&mount.point)
        && let Ok(steps) = path_steps(path)
    {
        facts = Facts { mount: Some(mount), root_mode: root.mode(), steps, ..facts };
    }
    Ok(classify(&facts))
}

/// How others can change an open file, or replace it; none if they cannot. The file was opened by `path`. No user can change what is on a
/// read-only mount.
pub(crate) fn write_exposure(file: &File, path: &Path) -> io::Result<Option<Exposure>> {
    let (metadata, own_user) = (file.metadata()?, geteuid().as_raw());
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & WRITE_BY_OTHERS != 0 {
        return Ok(Some(Exposure::Writable { mode }));
    }
    if ![0, own_user].contains(&owner) && !fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Some(Exposure::Foreign { owner }));
    }
    let is_open = |step: &Step| step.is_replaceable(own_user) || step.is_foreign(own_user);
    Ok(path_steps(path)?
        .into_iter()
        .find(is_open)
        .map(|step| Exposure::Replaceable { directory: step.directory }))
}

fn mount_of(file: &File) -> Option<Mount> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd())).ok()?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
    mount_with(&fs::read("/proc/self/mountinfo").ok()?, id)
}

/// The mount with this ID in the text of `mountinfo`.
fn mount_with(mountinfo: &[u8], id: u64) -> Option<Mount> {
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    let of_line = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let dash = fields.iter().position(|field| *field == b"-")?;
        let [kind, _, super_options] = *fields.get(dash + 1..dash + 4)? else { return None };
        let [first, _, _, _, point, options] = *fields.get(..6)? else { return None };
        let is_it = std::str::from_utf8(first).ok()?.parse() == Ok(id);
        is_it.then(|| Mount {
            point: unescaped(point),
            is_read_only: is_read_only(options) || is_read_only(super_options),
            is_memory: matches!(kind, b"tmpfs" | b"ramfs"),
        })
    };
    mountinfo.split(|byte| *byte == b'\n').find_map(of_line)
}

/// A path of `mountinfo`; its spaces and backslashes are octal escapes.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// Every directory of the path to a file; symbolic links are followed one by one.
fn path_steps(path: &Path) -> io::Result<Vec<Step>> {
    let mut at = std::env::current_dir()?;
    let mut pending: VecDeque<OsString> = parts(path);
    let mut steps = Vec::new();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        match name.as_bytes() {
            b"/" => at = PathBuf::from("/"),
            b".." => drop(at.pop()),
            _ => {
                let entry = at.join(&name);
                let metadata = fs::symlink_metadata(&entry)?;
                steps.push(step(&at, metadata.uid())?);
                if metadata.is_symlink() {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(io::Error::other("too many symbolic links"));
                    }
                    let mut target = parts(&fs::read_link(&entry)?);
                    target.append(&mut pending);
                    pending = target;
                } else {
                    at = entry;
                }
            }
        }
    }
    Ok(steps)
}

fn step(directory: &Path, entry_owner: u32) -> io::Result<Step> {
    let metadata = fs::metadata(directory)?;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    let is_read_only = statvfs(directory)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok(Step { directory: directory.to_owned(), mode, owner, is_read_only, entry_owner })
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::CurDir | Component::Prefix(_) => None,
        Component::RootDir => Some(OsStr::new("/").to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::Normal(name) => Some(name.to_owned()),
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 1000;

    fn mount(is_read_only: bool, is_memory: bool) -> Option<Mount> {
        Some(Mount { point: PathBuf::from("/run/secrets"), is_read_only, is_memory })
    }

    fn passed(directory: &str, mode: u32, is_read_only: bool, entry_owner: u32) -> Step {
        Step { directory: directory.into(), mode, owner: 0, is_read_only, entry_owner }
    }

    fn facts(mode: u32, mount: Option<Mount>, root_mode: u32) -> Facts {
        let steps = vec![passed("/", 0o755, false, 0), passed("/run/secrets", root_mode, false, 0)];
        Facts { mode, mount, root_mode, steps, own_user: OWN }
    }

    /// C5
    #[test]
    fn a_file_for_owner_and_group_is_accepted_on_any_mount() {
        for mode in [0o400, 0o600, 0o640, 0o440, 0o660] {
            assert_eq!(classify(&facts(mode, None, 0o1777)), None, "{mode:o}");
        }
    }

    /// C5
    #[test]
    fn a_file_that_others_can_write_is_rejected_on_any_mount() {
        for mode in [0o602, 0o666, 0o777, 0o646] {
            for mount in [None, mount(true, false), mount(false, true), mount(true, true)] {
                assert_eq!(
                    classify(&facts(mode, mount, 0o755)),
                    Some(Exposure::Writable { mode }),
                    "{mode:o}"
                );
            }
        }
    }

    /// C5: Kubernetes mounts read-only under a root of mode 1777, Docker's tmpfs has a root of mode 755
    #[test]
    fn a_file_that_others_can_read_needs_a_mount_that_keeps_them_out() {
        for mode in [0o644, 0o444, 0o604, 0o755, 0o601] {
            let refused = Some(Exposure::Readable { mode });
            assert_eq!(classify(&facts(mode, None, 0)), refused, "no mount is known, {mode:o}");
            assert_eq!(
                classify(&facts(mode, mount(false, false), 0o755)),
                refused,
                "an ordinary disk, {mode:o}"
            );
            assert_eq!(classify(&facts(mode, mount(false, true), 0o1777)), refused, "/dev/shm, {mode:o}");
            assert_eq!(classify(&facts(mode, mount(false, true), 0o755)), None, "tmpfs, {mode:o}");
            let mut kubernetes = facts(mode, mount(true, true), 0o1777);
            kubernetes.steps = vec![passed("/", 0o755, false, 0), passed("/etc/secret", 0o1777, true, 0)];
            assert_eq!(classify(&kubernetes), None, "read-only, {mode:o}");
        }
    }

    /// C5: a user who can replace a directory or a link of the path can replace the secret
    #[test]
    fn a_path_that_others_can_change_is_rejected() {
        let classified = |step: Step| {
            let mut facts = facts(0o444, mount(true, false), 0o755);
            facts.steps.push(step);
            classify(&facts)
        };
        let refused = Some(Exposure::Replaceable { directory: "/srv/open".into() });
        assert_eq!(classified(passed("/srv/open", 0o777, false, 0)), refused);
        assert_eq!(classified(passed("/srv/open", 0o1777, false, OWN + 1)), refused, "a stranger's entry");
        assert_eq!(classified(passed("/tmp", 0o1777, false, OWN)), None, "sticky: the entry is our own");
        assert_eq!(classified(passed("/tmp", 0o1777, false, 0)), None, "sticky: the entry is root's");
        assert_eq!(classified(passed("/srv/open", 0o777, true, OWN + 1)), None, "the mount is read-only");
        assert_eq!(classified(passed("/srv/group", 0o775, false, OWN + 1)), None, "the group has access");
    }

    /// G3: a directory of another user than root and the gateway's lets that user replace the file, unless the mount is read-only
    #[test]
    fn a_directory_of_another_user_is_found() {
        for (owner, is_read_only, expected) in
            [(0, false, false), (OWN, false, false), (OWN + 1, false, true), (OWN + 1, true, false)]
        {
            let step = Step { owner, ..passed("/home/other", 0o755, is_read_only, 0) };
            assert_eq!(step.is_foreign(OWN), expected, "{owner} {is_read_only}");
        }
    }

    #[test]
    fn a_mount_is_found_by_its_id() {
        let text = b"22 1 0:21 / /proc rw,nosuid - proc proc rw\n\
            36 22 98:0 /mnt1 /run/my\\040secrets ro,noatime master:1 shared:2 - ext4 /dev/root rw\n\
            37 22 0:40 / /run/secrets rw,relatime - tmpfs tmpfs ro,size=4k\n\
            38 22 0:41 / /dev/shm rw - tmpfs shm rw\n";
        let found = |id| mount_with(text, id).map(|mount| (mount.point, mount.is_read_only, mount.is_memory));
        assert_eq!(found(36), Some(("/run/my secrets".into(), true, false)));
        assert_eq!(
            found(37),
            Some(("/run/secrets".into(), true, true)),
            "the file system itself is read-only"
        );
        assert_eq!(found(38), Some(("/dev/shm".into(), false, true)));
        assert_eq!(found(39), None);
    }

    /// The steps include the directories before a link and those behind it.
    #[test]
    fn the_path_follows_links() {
        let base = std::env::temp_dir().join(format!("tidegate-way-{}", std::process::id()));
        fs::create_dir_all(base.join("..2026_01/deep")).unwrap();
        fs::write(base.join("..2026_01/deep/token"), "x").unwrap();
        std::os::unix::fs::symlink("..2026_01", base.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/deep/token", base.join("token")).unwrap();
        std::os::unix::fs::symlink("loop", base.join("loop")).unwrap();
        let steps: Vec<PathBuf> =
            path_steps(&base.join("token")).unwrap().into_iter().map(|step| step.directory).collect();
        let endless = path_steps(&base.join("loop"));
        fs::remove_dir_all(&base).unwrap();
        let real = fs::canonicalize(std::env::temp_dir()).unwrap().join(base.file_name().unwrap());
        let expected = [real.clone(), real.clone(), real.join("..2026_01"), real.join("..2026_01/deep")];
        assert!(steps.ends_with(&expected), "{steps:?}");
        assert!(endless.is_err());
    }
}
