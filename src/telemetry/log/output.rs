//! The output of the log: standard output, standard error, or a file that is reopened.
//!
//! Standard streams are duplicated descriptors: with the locks of `std::io::stdout` a blocked writer would block the exit. A FIFO is opened
//! for reading too (fifo(7)). Otherwise the open would wait for a reader, and each reader that closes it would break the pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tidegate_actors::{DiskSpace, clock, descriptors};
use tidegate_config::LogOutput;

use crate::telemetry::log::LogError;
use crate::telemetry::log::forward::PIPE_PIECE_MAX;

/// Maximum bytes of one write(2). Small enough that a slow reader, which reads some bytes each second, does not count as blocked.
const PIECE_BYTES_MAX: usize = 32 << 10;

/// Whether a reopened output is the same file as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reopened {
    /// The same file: a partial line may be completed.
    Same,
    /// Another file.
    Other,
}

/// Output of the writer thread.
pub(super) trait LogTarget: Write + Send {
    /// Whether the file was deleted, so that further lines would be lost.
    fn is_deleted(&self) -> bool;

    /// Reopens the output. After an error the old output stays in use.
    fn reopen(&mut self) -> io::Result<Reopened>;

    /// Whether the output is a file, which `reopen` can reopen.
    fn is_file(&self) -> bool;

    /// Maximum bytes of one write(2).
    fn piece_bytes_max(&self) -> usize {
        PIECE_BYTES_MAX
    }

    /// The space where it is written. May block like a write.
    fn disk(&self) -> DiskSpace {
        DiskSpace::NotAFile
    }

    /// Whether it is the same file, pipe or terminal as stderr, where a message could interrupt a log line.
    fn is_stderr(&self) -> bool;
}

/// The configured output.
pub(super) struct Output {
    file: File,
    path: Option<PathBuf>,
    /// Neither a pipe nor a device.
    is_regular: bool,
}

impl Output {
    fn new(file: File, path: Option<PathBuf>) -> Self {
        let is_regular = file.metadata().is_ok_and(|file| file.is_file());
        Self { file, path, is_regular }
    }

    pub(super) fn open(output: &LogOutput) -> Result<Self, LogError> {
        let stream = |file: io::Result<std::os::fd::OwnedFd>| {
            file.map(|file| Self::new(file.into(), None)).map_err(LogError::Thread)
        };
        match output {
            LogOutput::Stdout => stream(io::stdout().as_fd().try_clone_to_owned()),
            LogOutput::Stderr => stream(io::stderr().as_fd().try_clone_to_owned()),
            LogOutput::File(path) => match open_file(path) {
                Ok(file) => Ok(Self::new(file, Some(path.clone()))),
                Err(source) => Err(LogError::Open { path: path.clone(), source }),
            },
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let is_fifo = std::fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo());
    if is_fifo {
        return OpenOptions::new().read(true).write(true).open(path);
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Device and inode (stat(2)).
fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|file| (file.dev(), file.ino()))
}

impl LogTarget for Output {
    fn is_deleted(&self) -> bool {
        self.path.is_some() && self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    fn reopen(&mut self) -> io::Result<Reopened> {
        let Some(path) = &self.path else { return Ok(Reopened::Same) };
        let file = descriptors::with_reserve(|| open_file(path))?;
        let is_same = identity(&file)? == identity(&self.file)?;
        *self = Self::new(file, self.path.take());
        Ok(if is_same { Reopened::Same } else { Reopened::Other })
    }

    fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// A pipe accepts so many bytes whole or not at all: during an upgrade two processes may write to it.
    fn piece_bytes_max(&self) -> usize {
        if self.is_regular { PIECE_BYTES_MAX } else { PIPE_PIECE_MAX }
    }

    fn disk(&self) -> DiskSpace {
        if !self.file.metadata().is_ok_and(|file| file.is_file()) {
            return DiskSpace::NotAFile;
        }
        match rustix::fs::fstatvfs(&self.file) {
            Ok(space) => DiskSpace::Measured {
                free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
                size_bytes: space.f_blocks.saturating_mul(space.f_frsize),
                at: clock::now(),
            },
            Err(_) => DiskSpace::Unknown,
        }
    }

    fn is_stderr(&self) -> bool {
        let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
        stderr.and_then(|stderr| Ok(identity(&stderr)? == identity(&self.file)?)).unwrap_or(false)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// G4: a renamed file stays in use until it is reopened, and a deleted one is detected
    #[test]
    fn files_are_reopened() {
        let scratch = Scratch::new();
        let (path, old) = (scratch.path().join("log"), scratch.path().join("log.1"));
        let mut output = Output::open(&LogOutput::File(path.clone())).unwrap();
        output.write_all(b"one\n").unwrap();
        assert_eq!(output.reopen().unwrap(), Reopened::Same);
        std::fs::rename(&path, &old).unwrap();
        output.write_all(b"two\n").unwrap();
        assert!(!output.is_deleted());
        assert_eq!(output.reopen().unwrap(), Reopened::Other);
        output.write_all(b"three\n").unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&old).as_str(), read(&path).as_str()), ("one\ntwo\n", "three\n"));
        std::fs::remove_file(&path).unwrap();
        assert!(output.is_deleted());
    }

    /// X1, X12: a file has the space of its file system, a device has none
    #[test]
    fn the_space_of_a_file_is_measured() {
        let scratch = Scratch::new();
        let output = Output::open(&LogOutput::File(scratch.path().join("log"))).unwrap();
        let DiskSpace::Measured { free_bytes, size_bytes, .. } = output.disk() else {
            panic!("not measured")
        };
        assert!(0 < free_bytes && free_bytes < size_bytes, "{free_bytes} of {size_bytes}");
        let device = Output::open(&LogOutput::File("/dev/null".into())).unwrap();
        assert_eq!(device.disk(), DiskSpace::NotAFile);
    }

    /// X12: a FIFO without a reader does not delay the start
    #[test]
    fn a_fifo_without_a_reader_is_opened() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut output = Output::open(&LogOutput::File(path)).unwrap();
        output.write_all(b"one\n").unwrap();
    }
}
