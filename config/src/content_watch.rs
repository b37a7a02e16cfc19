//! Finds out whether the content of files has changed.
//!
//! It compares keyed digests of what the files hold, not their times: a file that is written again without a change is no change, and a
//! file is read by its path, so a replaced symbolic link is followed (Kubernetes replaces the link `..data` of a ConfigMap).

use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::fingerprint::{Digest, Fingerprint};
use crate::regular_file::open_regular;
use crate::setting::{KeyPath, Settings};

/// The longest beginning of a file that is compared. No file of a configuration is longer.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Compares the content of files with that of earlier readings.
#[derive(Debug, Default)]
pub struct ContentWatch {
    /// the content of the last reading
    last: Option<Fingerprint>,
    /// the content that was reported
    reported: Option<Fingerprint>,
}

impl ContentWatch {
    /// Reads the files. Returns whether their content is new and was the same at the reading before.
    ///
    /// A caller that loads the files after `true` misses no change: the content was read before the load. The first content that two
    /// readings find is new too, because the files may have changed since the configuration was loaded at the start. A file that
    /// cannot be read has its error as content, so its loss is reported once.
    pub fn poll(&mut self, files: &[PathBuf]) -> bool {
        let content = content(files);
        let is_stable = self.last.replace(content) == Some(content);
        is_stable && self.reported.replace(content) != Some(content)
    }
}

/// The files that keys name: those of the keys that end with `_file`.
pub(crate) fn named_files(settings: &Settings) -> impl Iterator<Item = PathBuf> {
    let is_file = |path: &KeyPath| path.segments().last().is_some_and(|name| name.ends_with("_file"));
    let files = settings.iter().filter(move |(path, _)| is_file(path));
    files.filter_map(|(_, setting)| setting.raw.text().ok().map(PathBuf::from))
}

fn content(files: &[PathBuf]) -> Fingerprint {
    let mut digest = Digest::new();
    for path in files {
        digest.add(path.as_os_str().as_bytes());
        match read(path) {
            Ok((bytes, mode)) => {
                digest.add(&bytes);
                // a file that others can write is refused, and a new mode repairs that
                digest.add(&mode.to_ne_bytes());
            }
            Err(error) => digest.add(error.kind().to_string().as_bytes()),
        }
    }
    digest.finish()
}

/// The content of a file and its permission bits.
fn read(path: &Path) -> io::Result<(zeroize::Zeroizing<Vec<u8>>, u32)> {
    let file = open_regular(path)?;
    let metadata = file.metadata()?;
    // with room for all of it no copy is left behind by a growing buffer
    let size = metadata.len().min(FILE_BYTES_MAX);
    let mut bytes =
        zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A directory of its own, which ends with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-watch-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn polls(watch: &mut ContentWatch, files: &[PathBuf], count: usize) -> Vec<bool> {
        (0..count).map(|_| watch.poll(files)).collect()
    }

    /// G3: content is new once, when two readings in a row found it
    #[test]
    fn new_content_counts_when_it_stays() {
        let directory = Directory::new("stays");
        let files = [directory.path("t.toml"), directory.path("secret")];
        fs::write(&files[0], "a").unwrap();
        fs::write(&files[1], "b").unwrap();
        let mut watch = ContentWatch::default();
        assert_eq!(polls(&mut watch, &files, 4), [false, true, false, false], "the first content");
        fs::write(&files[0], "a").unwrap();
        assert_eq!(polls(&mut watch, &files, 2), [false, false], "written again without a change");
        for half in ["a half", "a half-written", "a whole file"] {
            fs::write(&files[0], half).unwrap();
            assert!(!watch.poll(&files), "{half}");
        }
        assert_eq!(polls(&mut watch, &files, 2), [true, false]);
        fs::write(&files[1], "c").unwrap();
        assert_eq!(polls(&mut watch, &files, 3), [false, true, false], "a file that the configuration names");
        fs::write(&files[1], "d").unwrap();
        assert!(!watch.poll(&files));
        fs::write(&files[1], "c").unwrap();
        assert_eq!(polls(&mut watch, &files, 2), [false, false], "taken back before it counted");
    }

    /// G3: a missing file and a mode are part of the content
    #[test]
    fn a_lost_file_and_a_new_mode_are_changes() {
        let directory = Directory::new("lost");
        let files = [directory.path("t.toml")];
        fs::write(&files[0], "a").unwrap();
        let mut watch = ContentWatch::default();
        assert_eq!(polls(&mut watch, &files, 2), [false, true]);
        fs::set_permissions(&files[0], fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(polls(&mut watch, &files, 3), [false, true, false]);
        fs::remove_file(&files[0]).unwrap();
        assert_eq!(polls(&mut watch, &files, 3), [false, true, false]);
        fs::create_dir(&files[0]).unwrap();
        assert_eq!(polls(&mut watch, &files, 3), [false, true, false], "another error");
    }

    /// G3: the link of a ConfigMap is replaced in one step, and the path of the file stays
    #[test]
    fn a_replaced_link_is_followed() {
        let directory = Directory::new("link");
        let write = |version: &str, text: &str| {
            fs::create_dir(directory.path(version)).unwrap();
            fs::write(directory.path(version).join("tidegate.toml"), text).unwrap();
        };
        write("..2026_01", "one");
        symlink("..2026_01", directory.path("..data")).unwrap();
        symlink("..data/tidegate.toml", directory.path("tidegate.toml")).unwrap();
        let files = [directory.path("tidegate.toml")];
        let mut watch = ContentWatch::default();
        assert_eq!(polls(&mut watch, &files, 3), [false, true, false]);
        let swap = |version: &str| {
            symlink(version, directory.path("..data_tmp")).unwrap();
            fs::rename(directory.path("..data_tmp"), directory.path("..data")).unwrap();
        };
        write("..2026_02", "two");
        swap("..2026_02");
        fs::remove_dir_all(directory.path("..2026_01")).unwrap();
        assert_eq!(polls(&mut watch, &files, 3), [false, true, false], "new content behind the link");
        write("..2026_03", "two");
        swap("..2026_03");
        assert_eq!(polls(&mut watch, &files, 3), [false, false, false], "the same content behind the link");
    }

    /// G3: another list of files is another content
    #[test]
    fn the_list_of_files_counts() {
        let directory = Directory::new("list");
        let files = [directory.path("a"), directory.path("b")];
        files.iter().for_each(|file| fs::write(file, "x").unwrap());
        let mut watch = ContentWatch::default();
        assert_eq!(polls(&mut watch, &files[..1], 2), [false, true]);
        assert_eq!(polls(&mut watch, &files, 3), [false, true, false]);
    }
}
