//! A file system of its own for the log: a tmpfs, small enough to be filled.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Written piece by piece until no byte fits any more.
const PIECE_BYTES: usize = 4096;

/// A mounted tmpfs; unmounted with this value.
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

    /// Takes the last byte. The pages are this process's and not the gateway's.
    pub(super) fn fill(&self) -> io::Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.filler())?;
        loop {
            match filler.write(&[0; PIECE_BYTES]) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                written => written.map(drop)?,
            }
        }
    }

    /// Gives back what `fill` has taken.
    pub(super) fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }
}

impl Drop for LogDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        // lazily: a gateway that hangs must not keep the mount for ever
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
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("the log disk needs root: {command:?}: {said}")))
}
