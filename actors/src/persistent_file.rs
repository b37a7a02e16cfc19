//! A small kernel file that is read repeatedly through one descriptor.
//!
//! The descriptor stays open, so a sensor works when the process has no descriptor left.
//!
//! The kernel generates the content at each read, also at one that begins at its end: a second read of `memory.stat` costs as much as the
//! first one. So a read that leaves room in the buffer is the last one. That holds for files with one record, as those of
//! cgroups and most of `/proc`. A list such as `/proc/self/mountinfo` may return fewer bytes before its end ([`read_list`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::descriptors;

/// The buffer grows by this size. `memory.stat` and `/proc/self/status` are below 8 KiB.
const CHUNK_BYTES: usize = 8 << 10;
/// Bytes that are read at most. `/proc/self/mountinfo` of a host with many containers has some 100 KiB.
const FILE_BYTES_MAX: usize = 4 << 20;

/// A file that is opened once. It is opened again after an error.
#[derive(Debug)]
pub(crate) struct PersistentFile {
    path: PathBuf,
    file: Option<File>,
    /// Kept, so that a read neither allocates nor clears it.
    buffer: Vec<u8>,
}

impl PersistentFile {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, buffer: Vec::new() }
    }

    /// The present content of a file with one record.
    pub(crate) fn read(&mut self) -> io::Result<String> {
        self.read_until(LastRead::LeavesRoom)
    }

    fn read_until(&mut self, last: LastRead) -> io::Result<String> {
        let file = match self.file.take() {
            Some(file) => file,
            None => descriptors::with_reserve(|| File::open(&self.path))?,
        };
        let length = read_from_start(&file, &mut self.buffer, last)?;
        self.file = Some(file);
        let text = std::str::from_utf8(&self.buffer[..length]);
        text.map(str::to_owned).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The present content; none if the file does not exist or this process may not read it.
    pub(crate) fn read_if_present(&mut self) -> io::Result<Option<String>> {
        if_present(self.read())
    }
}

/// The present content of a list. It is read to its end, and not kept open.
pub(crate) fn read_list(path: impl Into<PathBuf>) -> io::Result<String> {
    PersistentFile::new(path).read_until(LastRead::IsEmpty)
}

/// Which read is the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastRead {
    /// One that leaves room in the buffer.
    LeavesRoom,
    /// One without a byte.
    IsEmpty,
}

/// The present content of a file that is read rarely, to its end, and not kept open; none as for `read_if_present`.
pub(crate) fn read_once(path: impl Into<PathBuf>) -> io::Result<Option<String>> {
    if_present(read_list(path))
}

fn if_present(read: io::Result<String>) -> io::Result<Option<String>> {
    use io::ErrorKind::{NotFound, PermissionDenied};
    match read {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the whole file and returns its length. The kernel generates the content again at a read from offset 0.
fn read_from_start(file: &File, buffer: &mut Vec<u8>, last: LastRead) -> io::Result<usize> {
    let mut length = 0;
    while length < FILE_BYTES_MAX {
        if length == buffer.len() {
            buffer.resize(length + CHUNK_BYTES, 0);
        }
        let offset = u64::try_from(length).unwrap_or(u64::MAX);
        match file.read_at(&mut buffer[length..], offset) {
            Ok(0) => break,
            Ok(read) => {
                length += read;
                if last == LastRead::LeavesRoom && length < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// X4: the descriptor stays valid while the content changes, and a missing file is no error
    #[test]
    fn an_open_file_has_the_present_content() {
        let directory = std::env::temp_dir().join(format!("tidegate-kept-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("limit");
        let mut file = PersistentFile::new(&path);
        assert_eq!(file.read_if_present().unwrap(), None);
        fs::write(&path, "17\n").unwrap();
        assert_eq!(file.read().unwrap(), "17\n");
        fs::write(&path, "4096\n".repeat(5000)).unwrap();
        assert_eq!(file.read().unwrap().len(), 25_000);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(file.read().unwrap().len(), 25_000, "the open descriptor outlives the name");
    }

    /// X1: one read returns the whole of each file that a sensor reads, and a list is read to its end
    #[cfg(target_os = "linux")]
    #[test]
    fn one_read_returns_a_record() {
        for path in ["/proc/self/status", "/proc/meminfo", "/proc/self/cgroup", "/proc/self/schedstat"] {
            let (once, all) = (PersistentFile::new(path).read().unwrap(), read_list(path).unwrap());
            assert_eq!(once.lines().count(), all.lines().count(), "{path}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(read_list("/proc/self/mountinfo").unwrap(), mounts);
    }
}
