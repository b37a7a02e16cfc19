//! A temporary directory for a test. The unit tests of the library include this file too.

use std::fs;
use std::path::{Path, PathBuf};

/// An empty temporary directory. Its drop removes it.
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
        // A failure is ignored: a panic during the unwinding of a failed test would abort the process.
        let _ = fs::remove_dir_all(&self.0);
    }
}
