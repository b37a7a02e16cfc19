//! A temporary directory for the duration of a test.

use std::fs;
use std::path::{Path, PathBuf};

/// An empty directory, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = format!("tidegate-test-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that is already failing must not abort because of its directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}
