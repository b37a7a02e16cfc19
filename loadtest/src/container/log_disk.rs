//! A separate file system for the log: a tmpfs that is small enough to fill.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Size of one write while the disk is filled.
const PIECE_BYTES: usize = 4096;

/// A mounted tmpfs. Its drop unmounts it.
#[derive(Debug)]
pub(super) struct LogDisk {
    path: PathBuf,
}

impl LogDisk {
    /// Mounts it at `directory/log`.
    pub(super) fn mount(directory: &Path, size_bytes: u64) -> io::Result<Self> {
        let path = directory.join("log");
        fs::create_dir(&path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size_bytes},mode=0700"), "loadtest-log"]).arg(&path);
        run(mount)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Fills the disk completely. The pages are charged to this process, not to the gateway.
    pub(super) fn fill(&self) -> io::Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.filler())?;
        loop {
            match filler.write(&[0; PIECE_BYTES]) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                written => written.map(drop)?,
            }
        }
    }

    /// Frees the space that `fill` has used.
    pub(super) fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }
}

impl Drop for LogDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        // Lazily, so that a blocked gateway does not prevent the unmount.
        umount.arg("--lazy").arg(&self.path);
        if let Err(error) = run(umount) {
            eprintln!("{error}");
        }
    }
}

fn run(mut command: Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("the log disk needs root: {command:?}: {stderr}")))
}
