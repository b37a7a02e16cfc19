//! The thread that writes the log.
//!
//! A batch is written in pieces. After an error the rest of the batch is lost and counted, except the rest of a partially written line: the
//! next write begins with it, so that no line is torn. A successful write ends the failure, and a notice in the log has the number of lost
//! lines.
//!
//! After an upgrade the lines go to the successor ([`Forward`]) and not to the output, from one whole line to another.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{Logger, error, info, warn};
use tidegate_actors::clock;

use crate::telemetry::log::fault::LogFault;
use crate::telemetry::log::forward::{Forward, ForwardError, next_piece};
use crate::telemetry::log::output::{LogTarget, Reopened};
use crate::telemetry::log::sink::{KEPT_BYTES_MAX, LogBuffer, WriterCommand};
use crate::telemetry::log::stats::{CurrentFault, LogStats};
use crate::telemetry::millis;

/// Minimum time between two notices of lost lines.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// Time between two measurements of the space on the disk.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread.
pub(super) fn start(
    buffer: Arc<LogBuffer>,
    stats: Arc<LogStats>,
    target: Box<dyn LogTarget>,
    notices: Logger,
) -> io::Result<()> {
    stats.set_disk(target.disk());
    let writer = Writer {
        stats,
        target,
        forward: None,
        requested: None,
        notices,
        partial_line: Vec::new(),
        recovered: None,
        reported: 0,
        noticed: None,
        measured: None,
    };
    std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(&buffer))?;
    Ok(())
}

struct Writer {
    stats: Arc<LogStats>,
    target: Box<dyn LogTarget>,
    /// The log of the successor, which is written instead of the target.
    forward: Option<Forward>,
    /// The same, while the target has a partial line.
    requested: Option<OwnedFd>,
    notices: Logger,
    /// The rest of a partially written line.
    partial_line: Vec<u8>,
    /// A failure that has ended without a notice so far.
    recovered: Option<CurrentFault>,
    /// Lost lines that earlier notices have reported.
    reported: u64,
    noticed: Option<Instant>,
    /// The last measurement of the space on the disk.
    measured: Option<Instant>,
}

impl Writer {
    fn run(mut self, buffer: &LogBuffer) {
        let mut lines = Vec::new();
        loop {
            let reopen = match buffer.wait_for_lines(&mut lines) {
                WriterCommand::Write { reopen } => reopen,
                // The last notice is logged without waiting for `NOTICE_EVERY`.
                WriterCommand::Stop if self.recovered.is_some() => {
                    self.noticed = None;
                    self.log_recovery();
                    continue;
                }
                // What the successor has not read is written, and its notice.
                WriterCommand::Stop if self.ends_forward(Forward::finish) => continue,
                WriterCommand::Stop => break,
            };
            if lines.is_empty() {
                self.ends_forward(Forward::check);
            } else {
                self.write_batch(&lines);
                lines.clear();
                lines.shrink_to(KEPT_BYTES_MAX);
            }
            self.requested = buffer.take_forward().or(self.requested.take());
            self.begin_forward();
            if reopen {
                self.reopen();
            }
            self.log_recovery();
            self.measure_disk();
        }
        buffer.mark_stopped();
    }

    /// Measures on this thread, because a file system that blocks writes blocks the measurement too.
    fn measure_disk(&mut self) {
        let now = clock::now();
        if self.measured.is_none_or(|at| now.saturating_duration_since(at) >= MEASURE_EVERY) {
            self.stats.set_disk(self.target.disk());
            self.measured = Some(now);
        }
    }

    /// Writes to the successor from here on, unless the beginning of a line is in the output and the rest cannot be written.
    fn begin_forward(&mut self) {
        let Some(pipe) = self.requested.take() else { return };
        if !self.partial_line.is_empty() {
            self.write_output(&[]);
        }
        if !self.partial_line.is_empty() {
            self.requested = Some(pipe);
            return;
        }
        match Forward::new(pipe) {
            Ok(forward) => self.forward = Some(forward),
            Err(error) => self.end_forward(ForwardError { error, lines: Vec::new() }),
        }
    }

    /// Whether the successor has closed its log or reads nothing. Its unread lines are written then.
    fn ends_forward(&mut self, check: fn(&mut Forward) -> Result<(), ForwardError>) -> bool {
        let checked = self.forward.as_mut().map_or(Ok(()), check);
        checked.map_err(|error| self.end_forward(error)).is_err()
    }

    /// Writes to the own output again.
    fn end_forward(&mut self, ForwardError { error, lines }: ForwardError) {
        self.forward = None;
        warn!(self.notices, "the successor has stopped writing the log, this process writes it again";
            "error" => error.to_string());
        // The file may have been rotated meanwhile.
        if let Err(error) = self.reopen_target() {
            self.log_reopen_error(&error);
        }
        self.write_output(&lines);
    }

    fn write_batch(&mut self, lines: &[u8]) {
        let Some(forward) = &mut self.forward else { return self.write_output(lines) };
        match forward.write(lines) {
            Ok(()) => self.recovered = self.stats.record_recovery().or(self.recovered.take()),
            Err(error) => self.end_forward(error),
        }
    }

    fn write_output(&mut self, lines: &[u8]) {
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

    /// Writes the batch. Returns the number of written bytes.
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
            // The beginning of this line is in the old file.
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
            Err(error) => self.log_reopen_error(&error),
        }
    }

    fn log_reopen_error(&self, error: &io::Error) {
        error!(self.notices, "log file cannot be reopened, the old file stays in use";
            "error" => error.to_string(), "hint" => "check the directory and permissions of log.output, then send SIGUSR1 again");
    }

    /// Logs the number of lost lines after a recovery.
    fn log_recovery(&mut self) {
        let (lost, now) = (self.stats.lost() - self.reported, clock::now());
        let is_due = self.noticed.is_none_or(|at| now.saturating_duration_since(at) >= NOTICE_EVERY);
        let Some(ended) = self.recovered.take_if(|_| is_due) else { return };
        self.noticed = Some(now);
        self.reported += lost;
        let lasted = now.saturating_duration_since(ended.since);
        warn!(self.notices, "log output works again";
            "error" => ended.detail, "lasted_ms" => millis(lasted),
            "lines_lost" => lost, "cause" => ended.cause.as_str());
    }
}

/// Writes in pieces that end with a line, so that lines of two processes do not mix in one output. Returns the number of written bytes.
fn write_all(target: &mut dyn LogTarget, bytes: &[u8], stats: &LogStats) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        stats.begin_write();
        match target.write(next_piece(rest, target.piece_bytes_max())) {
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
