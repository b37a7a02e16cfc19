//! The container of a scenario's gateway: a memory cgroup, a limit of descriptors, and a small log disk.
//!
//! All three need root or a delegated cgroup; without these privileges the scenario fails. The gateway's log is on the small disk, a tmpfs
//! that an event can fill and empty. Log lines are read and their pages freed immediately (`log_tail.rs`), so only an event can fill the
//! disk.

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

/// The container section of a scenario.
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

/// A container. It must be dropped after the gateway has ended; the drop removes it.
pub(crate) struct Container {
    descriptors: u64,
    cgroup: Cgroup,
    log_disk: LogDisk,
}

impl Container {
    /// Creates the cgroup, and mounts the log disk below `directory`.
    pub(crate) fn create(spec: &ContainerSpec, directory: &Path) -> io::Result<Self> {
        let cgroup = Cgroup::create(spec.memory.0)?;
        eprintln!("memory cgroup, version {}: {}", cgroup.version(), cgroup.path().display());
        let log_disk = LogDisk::mount(directory, spec.log_disk.0)?;
        Ok(Self { descriptors: spec.descriptors, cgroup, log_disk })
    }

    /// A command that runs `binary` in the container. The command's process becomes that of `binary`.
    pub(crate) fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new("sh");
        let script = r#"echo $$ > "$0" && ulimit -n "$1" && shift && exec "$@""#;
        command.arg("-c").arg(script).arg(self.cgroup.processes());
        command.arg(self.descriptors.to_string()).arg(binary);
        command
    }

    /// A reader of the gateway's memory cgroup.
    pub(crate) fn meter(&self) -> CgroupMeter {
        self.cgroup.meter()
    }

    /// Directory of the gateway's log.
    pub(crate) fn log_directory(&self) -> &Path {
        self.log_disk.path()
    }

    /// Fills the log disk.
    pub(crate) fn fill_log_disk(&self) -> io::Result<()> {
        self.log_disk.fill()
    }

    /// Frees the space of the log disk.
    pub(crate) fn empty_log_disk(&self) -> io::Result<()> {
        self.log_disk.empty()
    }
}
