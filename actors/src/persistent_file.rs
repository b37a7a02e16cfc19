//! A small kernel file that is read repeatedly through one descriptor.
//!
//! The descriptor stays open, so a sensor works when the process has no descriptor left.

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

    /// The present content.
    pub(crate) fn read(&mut self) -> io::Result<String> {
        let file = match self.file.take() {
            Some(file) => file,
            None => descriptors::with_reserve(|| File::open(&self.path))?,
        };
        let length = read_from_start(&file, &mut self.buffer)?;
        self.file = Some(file);
        let text = std::str::from_utf8(&self.buffer[..length]);
        text.map(str::to_owned).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The present content; none if the file does not exist or this process may not read it.
    pub(crate) fn read_if_present(&mut self) -> io::Result<Option<String>> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        match self.read() {
            Ok(text) => Ok(Some(text)),
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The present content of a file that is read rarely and not kept open; none as for `read_if_present`.
pub(crate) fn read_once(path: impl Into<PathBuf>) -> io::Result<Option<String>> {
    PersistentFile::new(path).read_if_present()
}

/// Reads the whole file and returns its length. The kernel generates the content again at a read from offset 0.
fn read_from_start(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    while length < FILE_BYTES_MAX {
        if length == buffer.len() {
            buffer.resize(length + CHUNK_BYTES, 0);
        }
        let offset = u64::try_from(length).unwrap_or(u64::MAX);
        match file.read_at(&mut buffer[length..], offset) {
            Ok(0) => break,
            Ok(read) => length += read,
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
}
