//! The thread that writes the log.
//!
//! A batch is written in pieces. After an error the rest of the batch is lost and counted, but for the rest of a line that was
//! written in part: it is kept and written first next time, so that no line is torn. A write that succeeds ends the failure,
//! and a notice in the log says how many lines are missing.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{Logger, error, info, warn};
use tidegate_actors::clock;

use crate::telemetry::log::fault::LogFault;
use crate::telemetry::log::output::{Reopened, Target};
use crate::telemetry::log::sink::{Buffer, KEPT_BYTES_MAX, Work};
use crate::telemetry::log::stats::{CurrentFault, LogStats};

/// Bytes of one write(2): small enough that a slow reader, which takes some each second, does not count as a blocked one.
const PIECE_BYTES_MAX: usize = 32 << 10;
/// Notices of lost lines come at most this often.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread.
pub(super) fn start(
    buffer: Arc<Buffer>,
    stats: Arc<LogStats>,
    target: Box<dyn Target>,
    notices: Logger,
) -> io::Result<()> {
    let writer = Writer { stats, target, notices, torn: Vec::new(), ended: None, reported: 0, noticed: None };
    std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(&buffer))?;
    Ok(())
}

struct Writer {
    stats: Arc<LogStats>,
    target: Box<dyn Target>,
    notices: Logger,
    /// The rest of a line that was written in part.
    torn: Vec<u8>,
    /// A failure that has ended, of which no notice was logged yet.
    ended: Option<CurrentFault>,
    /// Lost lines that notices have reported.
    reported: u64,
    noticed: Option<Instant>,
}

impl Writer {
    fn run(mut self, buffer: &Buffer) {
        let mut lines = Vec::new();
        loop {
            let reopen = match buffer.take(&mut lines) {
                Work::Write { reopen } => reopen,
                // The last notice does not wait until it is due.
                Work::Stop if self.ended.is_some() => {
                    self.noticed = None;
                    self.report();
                    continue;
                }
                Work::Stop => break,
            };
            if !lines.is_empty() {
                self.write_batch(&lines);
                lines.clear();
                lines.shrink_to(KEPT_BYTES_MAX);
            }
            if reopen {
                self.reopen();
            }
            self.report();
        }
        buffer.stopped();
    }

    fn write_batch(&mut self, lines: &[u8]) {
        self.stats.write_begins();
        let (written, result) = self.try_write(lines);
        self.stats.write_ends();
        match result {
            Ok(()) => self.ended = self.stats.recovered().or(self.ended.take()),
            Err(error) => {
                let rest = lines.get(written..).unwrap_or_default();
                let is_torn = written > 0 && lines.get(written - 1) != Some(&b'\n');
                let torn = if is_torn { rest.split_inclusive(|byte| *byte == b'\n').next() } else { None };
                let torn = torn.unwrap_or_default();
                self.torn.extend_from_slice(torn);
                let lost = count_lines(rest.get(torn.len()..).unwrap_or_default());
                self.stats.failed(LogFault::of(&error), error.to_string(), lost);
            }
        }
    }

    /// Writes the batch; returns how many of its bytes were written.
    fn try_write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if self.target.is_deleted()
            && let Err(error) = self.open_again()
        {
            return (0, Err(error));
        }
        let (written, result) = write_all(self.target.as_mut(), &self.torn, &self.stats);
        self.torn.drain(..written);
        if result.is_err() {
            return (0, result);
        }
        write_all(self.target.as_mut(), lines, &self.stats)
    }

    fn open_again(&mut self) -> io::Result<()> {
        if self.target.reopen()? == Reopened::Other && !self.torn.is_empty() {
            // The beginning of this line is in the other file.
            self.torn.clear();
            self.stats.failed(LogFault::Io, "the log file was replaced within a line".to_owned(), 1);
        }
        Ok(())
    }

    fn reopen(&mut self) {
        if !self.target.is_file() {
            info!(self.notices, "log not reopened: log.output is not a file");
            return;
        }
        match self.open_again() {
            Ok(()) => info!(self.notices, "log file reopened"),
            Err(error) => error!(self.notices, "log file cannot be reopened, the old file is written on";
                "error" => error.to_string(), "hint" => "check the directory and permissions of log.output, then send SIGUSR1 again"),
        }
    }

    /// Logs how many lines are missing, once writing works again.
    fn report(&mut self) {
        let (lost, now) = (self.stats.lost() - self.reported, clock::now());
        let is_due = self.noticed.is_none_or(|at| now.saturating_duration_since(at) >= NOTICE_EVERY);
        let Some(ended) = self.ended.take_if(|_| is_due) else { return };
        self.noticed = Some(now);
        self.reported += lost;
        let lasted = now.saturating_duration_since(ended.since);
        warn!(self.notices, "log output works again";
            "error" => ended.detail, "lasted_ms" => u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
            "lines_lost" => lost, "cause" => ended.cause.as_str());
    }
}

/// Writes in pieces; returns how many bytes were written.
fn write_all(target: &mut dyn Target, bytes: &[u8], stats: &LogStats) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        stats.write_begins();
        match target.write(&rest[..rest.len().min(PIECE_BYTES_MAX)]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
        stats.observe();
    }
    (written, Ok(()))
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
