//! What the monitor asks the log: the bytes that wait for its writer, and the space where it writes.

use std::fmt;
use std::time::Instant;

/// Space of a file system, as the log writer measured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSpace {
    /// The log does not go to a regular file.
    NotAFile,
    /// Not measured yet, or the measurement failed.
    Unknown,
    /// A measurement.
    Measured {
        /// Bytes that this process can still write.
        free_bytes: u64,
        /// Size of the file system.
        size_bytes: u64,
        /// When.
        at: Instant,
    },
}

/// The log, as the monitor sees it. No method waits for the output.
pub trait LogProbe: fmt::Debug + Send + Sync {
    /// Bytes that wait for the writer, and the most that may wait.
    fn backlog(&self) -> (u64, u64);

    /// The last measurement of the space where the log is written.
    fn disk(&self) -> DiskSpace;
}
