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
use crate::telemetry::log::output::{LogTarget, Reopened};
use crate::telemetry::log::sink::{KEPT_BYTES_MAX, LogBuffer, WriterCommand};
use crate::telemetry::log::stats::{CurrentFault, LogStats};

/// Bytes of one write(2): small enough that a slow reader, which takes some each second, does not count as a blocked one.
const PIECE_BYTES_MAX: usize = 32 << 10;
/// Notices of lost lines come at most this often.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread.
pub(super) fn start(
    buffer: Arc<LogBuffer>,
    stats: Arc<LogStats>,
    target: Box<dyn LogTarget>,
    notices: Logger,
) -> io::Result<()> {
    let writer = Writer {
        stats,
        target,
        notices,
        partial_line: Vec::new(),
        recovered: None,
        reported: 0,
        noticed: None,
    };
    std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(&buffer))?;
    Ok(())
}

struct Writer {
    stats: Arc<LogStats>,
    target: Box<dyn LogTarget>,
    notices: Logger,
    /// The rest of a line that was written in part.
    partial_line: Vec<u8>,
    /// A failure that has ended, of which no notice was logged yet.
    recovered: Option<CurrentFault>,
    /// Lost lines that notices have reported.
    reported: u64,
    noticed: Option<Instant>,
}

impl Writer {
    fn run(mut self, buffer: &LogBuffer) {
        let mut lines = Vec::new();
        loop {
            let reopen = match buffer.wait_for_lines(&mut lines) {
                WriterCommand::Write { reopen } => reopen,
                // The last notice does not wait until it is due.
                WriterCommand::Stop if self.recovered.is_some() => {
                    self.noticed = None;
                    self.log_recovery();
                    continue;
                }
                WriterCommand::Stop => break,
            };
            if !lines.is_empty() {
                self.write_batch(&lines);
                lines.clear();
                lines.shrink_to(KEPT_BYTES_MAX);
            }
            if reopen {
                self.reopen();
            }
            self.log_recovery();
        }
        buffer.mark_stopped();
    }

    fn write_batch(&mut self, lines: &[u8]) {
        self.stats.begin_write();
        let (written, result) = self.try_write(lines);
        self.stats.end_write();
        match result {
            Ok(()) => self.recovered = self.stats.record_recovery().or(self.recovered.take()),
            Err(error) => {
                let rest = lines.get(written..).unwrap_or_default();
                let is_torn = written > 0 && lines.get(written - 1) != Some(&b'\n');
                let torn = if is_torn { rest.split_inclusive(|byte| *byte == b'\n').next() } else { None };
                let torn = torn.unwrap_or_default();
                self.partial_line.extend_from_slice(torn);
                let lost = count_lines(rest.get(torn.len()..).unwrap_or_default());
                self.stats.record_failure(LogFault::from_error(&error), error.to_string(), lost);
            }
        }
    }

    /// Writes the batch; returns how many of its bytes were written.
    fn try_write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if self.target.is_deleted()
            && let Err(error) = self.reopen_target()
        {
            return (0, Err(error));
        }
        let (written, result) = write_all(self.target.as_mut(), &self.partial_line, &self.stats);
        self.partial_line.drain(..written);
        if result.is_err() {
            return (0, result);
        }
        write_all(self.target.as_mut(), lines, &self.stats)
    }

    fn reopen_target(&mut self) -> io::Result<()> {
        if self.target.reopen()? == Reopened::Other && !self.partial_line.is_empty() {
            // The beginning of this line is in the other file.
            self.partial_line.clear();
            self.stats.record_failure(LogFault::Io, "the log file was replaced within a line".to_owned(), 1);
        }
        Ok(())
    }

    fn reopen(&mut self) {
        if !self.target.is_file() {
            info!(self.notices, "log not reopened: log.output is not a file");
            return;
        }
        match self.reopen_target() {
            Ok(()) => info!(self.notices, "log file reopened"),
            Err(error) => error!(self.notices, "log file cannot be reopened, the old file is written on";
                "error" => error.to_string(), "hint" => "check the directory and permissions of log.output, then send SIGUSR1 again"),
        }
    }

    /// Logs how many lines are missing, once writing works again.
    fn log_recovery(&mut self) {
        let (lost, now) = (self.stats.lost() - self.reported, clock::now());
        let is_due = self.noticed.is_none_or(|at| now.saturating_duration_since(at) >= NOTICE_EVERY);
        let Some(ended) = self.recovered.take_if(|_| is_due) else { return };
        self.noticed = Some(now);
        self.reported += lost;
        let lasted = now.saturating_duration_since(ended.since);
        warn!(self.notices, "log output works again";
            "error" => ended.detail, "lasted_ms" => u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
            "lines_lost" => lost, "cause" => ended.cause.as_str());
    }
}

/// Writes in pieces; returns how many bytes were written.
fn write_all(target: &mut dyn LogTarget, bytes: &[u8], stats: &LogStats) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        stats.begin_write();
        match target.write(&rest[..rest.len().min(PIECE_BYTES_MAX)]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
        stats.check_blocked_write();
    }
    (written, Ok(()))
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
