//! The origin's data directory: creates it, locks it for one process, and checks that it is writable.
//!
//! The check is a trial write, because mode bits do not show a read-only mount, a full disk, or root.
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use super::OriginError;

// A name that begins with a dot cannot be a bucket's.
pub(super) const LOCK_FILE: &str = ".tidegate-origin.lock";
const PROBE_FILE: &str = ".tidegate-write-probe";

/// The lock on a data directory. The kernel releases it with the file handle, also after a kill.
#[derive(Debug)]
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "held for its lock")] File);

pub(super) fn prepare(directory: &Path) -> Result<DirectoryLock, OriginError> {
    fs::create_dir_all(directory)
        .map_err(|source| OriginError::Create { directory: directory.to_owned(), source })?;
    let lock = lock(directory)?;
    probe(directory).map_err(|source| OriginError::Write { directory: directory.to_owned(), source })?;
    Ok(DirectoryLock(lock))
}

fn lock(directory: &Path) -> Result<File, OriginError> {
    let write_error = |source| OriginError::Write { directory: directory.to_owned(), source };
    let path = directory.join(LOCK_FILE);
    let file = File::options().create(true).append(true).open(path).map_err(write_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OriginError::InUse { directory: directory.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(write_error(source)),
    }
    Ok(file)
}

fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(PROBE_FILE);
    let written = File::create(&path).and_then(|mut file| file.write_all(b"tidegate"));
    // Also after a failed write, because a full disk leaves an empty file.
    let removed = fs::remove_file(&path);
    written.and(removed)
}
