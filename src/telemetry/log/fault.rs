//! Causes of lost log lines and failed writes, with their names in metrics and the status document.

use std::io;

/// Why log lines are lost or not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFault {
    /// The file system or the quota is full (`ENOSPC`, `EDQUOT`).
    DiskFull,
    /// The reader has closed the pipe (`EPIPE`).
    BrokenPipe,
    /// Any other write error.
    Io,
    /// A write did not return within a second.
    Blocked,
    /// Lines are logged faster than the output accepts them.
    TooSlow,
}

impl LogFault {
    /// Every cause, in the order of the counters.
    pub const ALL: [Self; 5] = [Self::DiskFull, Self::BrokenPipe, Self::Io, Self::Blocked, Self::TooSlow];

    /// The cause of a failed write.
    #[must_use]
    pub fn from_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Io,
        }
    }

    /// The name as a metric label and in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::BrokenPipe => "broken_pipe",
            Self::Io => "io",
            Self::Blocked => "blocked",
            Self::TooSlow => "too_slow",
        }
    }

    /// The remedy, for the operator.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::DiskFull => "free space on the file system of log.output",
            Self::BrokenPipe => "restart the reader of the log together with the gateway, or log to a file",
            Self::Io => "check that log.output can be written",
            Self::Blocked => "read from the pipe or terminal that log.output goes to, or check its disk",
            Self::TooSlow => "log less (log.level, log.access) or to a faster output",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X10
    #[test]
    fn write_errors_are_classified_by_cause() {
        // ENOSPC, EDQUOT, EPIPE, EIO, EBADF
        let of = |errno: i32| LogFault::from_error(&io::Error::from_raw_os_error(errno)).as_str();
        assert_eq!([28, 122, 32, 5, 9].map(of), ["disk_full", "disk_full", "broken_pipe", "io", "io"]);
    }
}
