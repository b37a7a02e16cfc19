//! The container that a scenario puts the gateway into: a memory cgroup, a limit of descriptors, a small log disk.
//!
//! All three need root or a delegated cgroup; a scenario that asks for them fails where they cannot be had. The gateway's
//! log lies on the small disk, a tmpfs that an event can fill and empty. Its lines are read and their pages given back at
//! once (`log_tail`), so that it fills only when an event fills it.

mod broken;
mod cgroup;
mod log_disk;
mod log_tail;

use std::io;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

pub(crate) use broken::{BrokenConnection, unexplained};
use cgroup::Cgroup;
pub(crate) use cgroup::CgroupMeter;
use log_disk::LogDisk;
pub(crate) use log_tail::LogTail;

use crate::size::Bytes;

/// What the container has, as a scenario spells it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContainerSpec {
    /// Limit of the memory cgroup, swap included.
    pub(crate) memory: Bytes,
    /// Soft and hard limit of open descriptors (`ulimit -n`).
    pub(crate) descriptors: u64,
    /// Size of the file system with the log.
    pub(crate) log_disk: Bytes,
}

/// A container; removed with this value, after the gateway has ended.
pub(crate) struct Container {
    descriptors: u64,
    cgroup: Cgroup,
    log_disk: LogDisk,
}

impl Container {
    /// Makes the cgroup, and mounts the log disk below `directory`.
    pub(crate) fn create(spec: &ContainerSpec, directory: &Path) -> io::Result<Self> {
        let cgroup = Cgroup::create(spec.memory.0)?;
        eprintln!("memory cgroup, version {}: {}", cgroup.version(), cgroup.path().display());
        let log_disk = LogDisk::mount(directory, spec.log_disk.0)?;
        Ok(Self { descriptors: spec.descriptors, cgroup, log_disk })
    }

    /// A command that runs `binary` in the container, as the process that the command starts.
    pub(crate) fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new("sh");
        let script = r#"echo $$ > "$0" && ulimit -n "$1" && shift && exec "$@""#;
        command.arg("-c").arg(script).arg(self.cgroup.processes());
        command.arg(self.descriptors.to_string()).arg(binary);
        command
    }

    /// Reads the gateway's memory cgroup.
    pub(crate) fn meter(&self) -> CgroupMeter {
        self.cgroup.meter()
    }

    /// Where the gateway's log goes.
    pub(crate) fn log_directory(&self) -> &Path {
        self.log_disk.path()
    }

    /// Takes all room of the log disk.
    pub(crate) fn fill_log_disk(&self) -> io::Result<()> {
        self.log_disk.fill()
    }

    /// Gives the room back.
    pub(crate) fn empty_log_disk(&self) -> io::Result<()> {
        self.log_disk.empty()
    }
}
