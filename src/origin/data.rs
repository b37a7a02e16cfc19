//! Files with the bytes of objects and parts.
//!
//! A data file is written once and never changed. It belongs to one object or part. The drop of its [`DataFile`] removes the file unless a
//! record names it, so a failed upload, and an object that is replaced while it is read, need no further clean-up. A kill of the process
//! leaves such files behind; the next start removes them (`load.rs`).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

/// One data file.
#[derive(Debug)]
pub(super) struct DataFile {
    path: PathBuf,
    is_persistent: AtomicBool,
}

impl DataFile {
    /// Creates an empty file that is removed on drop.
    pub(super) fn create(directory: &Path) -> io::Result<(Self, File)> {
        let data = Self::unnamed(directory);
        let file = File::create_new(&data.path)?;
        Ok((data, file))
    }

    /// A hard link to `source`, or a copy if the file system has no hard links.
    pub(super) fn link(directory: &Path, source: &Path) -> io::Result<Self> {
        let data = Self::unnamed(directory);
        if fs::hard_link(source, &data.path).is_err() {
            fs::copy(source, &data.path)?;
        }
        Ok(data)
    }

    /// A file that a record names.
    pub(super) fn existing(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name), is_persistent: AtomicBool::new(true) }
    }

    fn unnamed(directory: &Path) -> Self {
        let path = directory.join(Uuid::new_v4().simple().to_string());
        Self { path, is_persistent: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file name, a UUID in ASCII.
    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }

    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Keeps the file after the drop, because a record names it.
    pub(super) fn persist(&self) {
        self.is_persistent.store(true, Ordering::Relaxed);
    }

    /// Removes the file with the last reader, because no record names it any more.
    pub(super) fn discard(&self) {
        self.is_persistent.store(false, Ordering::Relaxed);
    }
}

/// Whether a name is that of a data file: the 32 hexadecimal digits of a UUID.
pub(super) fn is_data_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if !*self.is_persistent.get_mut() {
            // A file that cannot be removed now is removed at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scratch::Scratch;

    /// An unnamed file is removed, but a file that is being read stays until the read ends.
    #[test]
    fn a_file_is_removed_with_its_last_user() {
        let scratch = Scratch::new();
        let count = || fs::read_dir(scratch.path()).unwrap().count();
        let (data, _file) = DataFile::create(scratch.path()).unwrap();
        drop(data);
        assert_eq!(count(), 0);
        let (data, _file) = DataFile::create(scratch.path()).unwrap();
        data.persist();
        let name = data.name().to_owned();
        drop(data);
        assert_eq!(count(), 1);
        let stored = Arc::new(DataFile::existing(scratch.path(), &name));
        let reader = Arc::clone(&stored);
        stored.discard();
        drop(stored);
        assert!(reader.open().is_ok());
        drop(reader);
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_link_outlives_its_source() {
        let scratch = Scratch::new();
        let source = scratch.path().join("source");
        fs::write(&source, "bytes").unwrap();
        let link = DataFile::link(scratch.path(), &source).unwrap();
        fs::remove_file(&source).unwrap();
        assert_eq!(fs::read(link.path()).unwrap(), b"bytes");
    }
}
