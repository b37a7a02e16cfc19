//! A directory with scripted kernel files, for tests. Its drop removes it.

use std::fs;
use std::path::PathBuf;

pub(super) struct TestDirectory(pub(super) PathBuf);

impl TestDirectory {
    /// `name` must be unique among the tests of this crate.
    pub(super) fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let directory = Self(path);
        files.iter().for_each(|(file, text)| directory.write(file, text));
        directory
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
