//! The log of a predecessor: whole lines go to its successor by a pipe, so one process writes the output.
//!
//! Writes never block. A piece of at most `PIPE_BUF` bytes is written whole or not at all (pipe(7)), and it ends with a line, so only a
//! longer line can be in the pipe in part. Lines are kept until the successor has read them: when it ends or does not read for
//! a second, the unread lines are taken back, and the caller writes them to its own output.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{ioctl_fionbio, ioctl_fionread};
use tidegate_actors::clock;

/// The most bytes that a pipe accepts whole or not at all (`PIPE_BUF` of Linux).
pub(super) const PIPE_PIECE_MAX: usize = 4096;
/// A successor that reads nothing for this time has stopped.
const STALL_MAX: Duration = Duration::from_secs(1);
/// Interval at which the end checks whether everything was read.
const FINISH_POLL: Duration = Duration::from_millis(2);
/// Kept bytes below which no read lines are dropped within a batch: twice a pipe's capacity.
const KEPT_BYTES_MIN: usize = 128 << 10;
/// ASCII CAN: cancels the unfinished line before it. No log line contains it, because texts are escaped.
pub(super) const CANCEL: u8 = 0x18;

/// The pipe to the successor.
pub(super) struct Forward {
    pipe: File,
    /// Written bytes from the first line on that the successor may not have read. Begins with a line.
    kept: Vec<u8>,
    /// Length of `kept` at which the lines that were read are dropped.
    drop_at: usize,
    stall_max: Duration,
}

/// The pipe cannot be used any more.
#[derive(Debug)]
pub(super) struct ForwardError {
    pub(super) error: io::Error,
    /// The lines that the successor has not read, whole.
    pub(super) lines: Vec<u8>,
}

impl Forward {
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: pipe.into(), kept: Vec::new(), drop_at: KEPT_BYTES_MIN, stall_max: STALL_MAX })
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), ForwardError> {
        let mut rest = lines;
        while !rest.is_empty() {
            match self.write_piece(next_piece(rest, PIPE_PIECE_MAX)) {
                Ok(written) => {
                    let (written, unwritten) = rest.split_at(written.min(rest.len()));
                    self.kept.extend_from_slice(written);
                    rest = unwritten;
                }
                Err(error) => return Err(self.take_back(error, rest)),
            }
            if self.kept.len() >= self.drop_at {
                self.drop_read();
            }
        }
        self.drop_read();
        Ok(())
    }

    /// Takes the unread lines back if the successor has closed the pipe.
    pub(super) fn check(&mut self) -> Result<(), ForwardError> {
        match self.wait(PollFlags::empty(), Duration::ZERO) {
            Ok(events) if !events.contains(PollFlags::ERR) => Ok(()),
            Ok(_) => Err(self.take_back(io::ErrorKind::BrokenPipe.into(), &[])),
            Err(error) => Err(self.take_back(error, &[])),
        }
    }

    /// Waits until the successor has read everything, as long as it reads. Otherwise takes the unread lines back.
    pub(super) fn finish(&mut self) -> Result<(), ForwardError> {
        let mut stall = Stall::default();
        while self.unread() > 0 {
            self.check()?;
            if let Err(error) = stall.check(self) {
                return Err(self.take_back(error, &[]));
            }
            std::thread::sleep(FINISH_POLL);
        }
        self.check()
    }

    /// Writes a piece. Waits for room in the pipe as long as the successor reads.
    fn write_piece(&self, piece: &[u8]) -> io::Result<usize> {
        let mut stall = Stall::default();
        loop {
            match (&self.pipe).write(piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = stall.check(self)?;
            self.wait(PollFlags::OUT, left)?;
        }
    }

    fn wait(&self, flags: PollFlags, limit: Duration) -> io::Result<PollFlags> {
        let mut pipe = [PollFd::new(&self.pipe, flags)];
        let limit = Timespec::try_from(limit).ok();
        match poll(&mut pipe, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
            polled => polled.map(|_| pipe[0].revents()).map_err(io::Error::from),
        }
    }

    /// Bytes in the pipe.
    fn unread(&self) -> usize {
        ioctl_fionread(&self.pipe).ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
    }

    /// Drops the lines that the successor has read whole.
    fn drop_read(&mut self) {
        let begin = line_begin(&self.kept, self.unread());
        self.kept.drain(..begin);
        self.drop_at = KEPT_BYTES_MIN.max(2 * self.kept.len());
    }

    /// Removes what is unread from the pipe, so that a successor that reads again does not write it too. Returns its lines and
    /// the unwritten ones. The line that the successor has read in part is among them.
    fn take_back(&mut self, error: io::Error, unwritten: &[u8]) -> ForwardError {
        let unread = self.remove_unread().unwrap_or_else(|_| self.unread());
        let begin = line_begin(&self.kept, unread);
        if begin < self.kept.len().saturating_sub(unread) {
            // Without a reader there is nothing to cancel.
            let _ = (&self.pipe).write(&[CANCEL]);
        }
        let mut lines = self.kept.split_off(begin);
        lines.extend_from_slice(unwritten);
        self.kept.clear();
        ForwardError { error, lines }
    }

    /// Reads the pipe empty through a descriptor of its other end. Returns the number of bytes.
    fn remove_unread(&self) -> io::Result<usize> {
        let path = format!("/proc/self/fd/{}", self.pipe.as_raw_fd());
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let mut reader = File::options().read(true).custom_flags(flags).open(path)?;
        // One read, so that the successor cannot read a part of it meanwhile.
        let unread = ioctl_fionread(&self.pipe)?;
        let mut bytes = vec![0; usize::try_from(unread).map_err(io::Error::other)?];
        loop {
            match reader.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                read => return read,
            }
        }
    }
}

/// The time since the successor has read.
#[derive(Default)]
struct Stall(Option<(Instant, usize)>);

impl Stall {
    /// Returns how long the successor may go on without reading; an error if it has stopped.
    fn check(&mut self, forward: &Forward) -> io::Result<Duration> {
        let (now, unread) = (clock::now(), forward.unread());
        let (began, _) = *self.0.insert(match self.0 {
            Some(stall) if unread >= stall.1 => stall,
            _ => (now, unread),
        });
        let left = forward.stall_max.saturating_sub(now.saturating_duration_since(began));
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it reads nothing"));
        }
        Ok(left)
    }
}

/// The beginning of the line that the last `unread` bytes begin in. The end, if all lines are read whole.
fn line_begin(kept: &[u8], unread: usize) -> usize {
    let read = kept.get(..kept.len().saturating_sub(unread)).unwrap_or_default();
    memchr::memrchr(b'\n', read).map_or(0, |end| end + 1)
}

/// The next bytes to write: whole lines of at most `max` bytes, or a part of a longer line.
pub(super) fn next_piece(lines: &[u8], max: usize) -> &[u8] {
    let piece = lines.get(..max).unwrap_or(lines);
    if piece.len() == lines.len() {
        return piece;
    }
    memchr::memrchr(b'\n', piece).and_then(|end| piece.get(..=end)).unwrap_or(piece)
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
