//! The logger, built from the `log` section, and the control of its writer thread.
//!
//! Workers append lines to a bounded buffer (`sink.rs`). One thread writes the buffer to the output (`writer.rs`, `output.rs`), and a
//! second one reports write failures on stderr (`watchdog.rs`). No other thread writes to an output, so a blocked terminal, pipe or disk
//! blocks neither a worker nor the exit. `stats.rs` holds the counters and the current failure. During an upgrade the predecessor sends its
//! lines to the successor (`forward.rs`), which receives them (`receive.rs`), so one process writes the output.

mod access;
mod fault;
mod forward;
#[cfg(test)]
mod handover_tests;
mod output;
mod receive;
mod sink;
mod stats;
mod watchdog;
mod writer;

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use slog::{Drain, Level, Logger, o};
use thiserror::Error;
use tidegate_actors::{DiskSpace, LogProbe, clock};
use tidegate_config::{LogConfig, LogFormat, LogLevel, LogOutput};

use crate::telemetry::json::JsonDrain;
use crate::telemetry::log::output::{LogTarget as _, Output};
use crate::telemetry::log::receive::Receivers;
use crate::telemetry::log::sink::{BUFFER_BYTES_MAX, LogBuffer};
use crate::telemetry::terminal::{Style, TerminalDrain};

pub(crate) use access::AccessLog;
pub use fault::LogFault;
pub(crate) use sink::Sink;
pub use stats::{CurrentFault, LogStats};
pub use watchdog::write_stderr;

/// The longest wait at the end for a writer thread that does not get the CPU.
const WRITER_START_MAX: Duration = Duration::from_secs(3);

/// Why the log cannot be started.
#[derive(Debug, Error)]
pub enum LogError {
    /// The output cannot be opened.
    #[error("log.output: cannot open {} for writing: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A thread of the log did not start.
    #[error("cannot start the log writer: {0}")]
    Thread(io::Error),
    /// Two metrics of the same name: a defect of tidegate itself.
    #[error("a metric of the log cannot be created: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Controls the writer thread. No method blocks on the output.
#[derive(Clone)]
pub struct LogControl {
    buffer: Arc<LogBuffer>,
    stats: Arc<LogStats>,
    level: LevelFilter,
    format: LineFormat,
    receivers: Arc<Receivers>,
}

/// The format of all lines.
#[derive(Clone, Copy)]
enum LineFormat {
    Json,
    Terminal(Style),
}

impl LineFormat {
    fn of(config: &LogConfig) -> Self {
        let is_terminal = match config.output {
            LogOutput::Stdout => io::stdout().is_terminal(),
            LogOutput::Stderr => io::stderr().is_terminal(),
            LogOutput::File(_) => false,
        };
        let style = if is_terminal { Style::Colored } else { Style::Plain };
        match config.format {
            LogFormat::Terminal => Self::Terminal(style),
            LogFormat::Json => Self::Json,
            LogFormat::Auto => {
                if is_terminal {
                    Self::Terminal(style)
                } else {
                    Self::Json
                }
            }
        }
    }
}

/// The lowest level that is logged. A reload changes it.
#[derive(Clone)]
struct LevelFilter(Arc<AtomicUsize>);

impl LevelFilter {
    fn new(level: LogLevel) -> Self {
        Self(Arc::new(AtomicUsize::new(slog_level(level).as_usize())))
    }

    fn keeps(&self, level: Level) -> bool {
        level.as_usize() <= self.0.load(Ordering::Relaxed)
    }
}

fn slog_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}

impl LogControl {
    /// Requests the writer thread to reopen the log file, for rotation (SIGUSR1). Without effect if the output is not a file.
    pub fn reopen(&self) {
        self.buffer.reopen();
    }

    /// Requests the writer thread to write to this pipe, the log of the successor, instead of the output. When the successor ends or does
    /// not read, the writer thread opens the output again and writes what the successor has not read there.
    pub fn forward_to(&self, pipe: OwnedFd) {
        self.buffer.forward_to(pipe);
    }

    /// Appends the lines from this pipe, the log of the predecessor, to the own log, until the predecessor ends.
    ///
    /// # Errors
    /// The thread that reads the pipe cannot be started.
    pub fn receive_from(&self, pipe: OwnedFd) -> io::Result<()> {
        self.receivers.start(pipe, Sink::new(Arc::clone(&self.buffer), Arc::clone(&self.stats)))
    }

    /// Changes the lowest level that is logged.
    pub fn set_level(&self, level: LogLevel) {
        self.level.0.store(slog_level(level).as_usize(), Ordering::Relaxed);
    }

    /// Ends the log: the writer thread writes the buffered lines, and those that a predecessor has sent. Returns whether all lines
    /// were written.
    ///
    /// Waits at most `timeout` for an output that is slow or blocked. A writer thread that is not in a write has not got the CPU yet: the
    /// wait for it is longer, because the last lines would be lost on a busy machine.
    pub fn shut_down(&self, timeout: Duration) -> bool {
        self.receivers.stop(timeout);
        let began = clock::now();
        loop {
            if self.buffer.shut_down(timeout) {
                return true;
            }
            if self.stats.is_writing() || clock::now().saturating_duration_since(began) >= WRITER_START_MAX {
                return false;
            }
        }
    }

    /// The access log, which writes to the same output.
    pub(crate) fn access_log(&self) -> AccessLog {
        let sink = Sink::new(Arc::clone(&self.buffer), Arc::clone(&self.stats));
        AccessLog::new(self.format, sink, self.level.clone())
    }

    /// Lines lost, write failures by cause, and the current failure.
    #[must_use]
    pub fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.stats)
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogControl")
    }
}

impl LogProbe for LogControl {
    fn backlog(&self) -> (u64, u64) {
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        (bytes(self.buffer.pending_bytes()), bytes(BUFFER_BYTES_MAX))
    }

    fn disk(&self) -> DiskSpace {
        self.stats.disk()
    }
}

/// Builds the logger and starts its writer thread.
///
/// # Errors
/// The log file cannot be opened, or a thread cannot be started.
pub fn build(config: &LogConfig) -> Result<(Logger, LogControl), LogError> {
    let output = Output::open(&config.output)?;
    let buffer = Arc::new(LogBuffer::default());
    let stats = Arc::new(LogStats::new()?);
    let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&stats));
    let level = LevelFilter::new(config.level);
    let format = LineFormat::of(config);
    let (log, unfiltered) = loggers(format, &sink, &level);
    watchdog::start(Arc::clone(&stats), !output.is_stderr()).map_err(LogError::Thread)?;
    writer::start(Arc::clone(&buffer), Arc::clone(&stats), Box::new(output), unfiltered)
        .map_err(LogError::Thread)?;
    Ok((log, LogControl { buffer, stats, level, format, receivers: Arc::default() }))
}

/// The logger at the configured level, and one without a level filter for notices about the log itself.
fn loggers(format: LineFormat, sink: &Sink, level: &LevelFilter) -> (Logger, Logger) {
    match format {
        LineFormat::Json => filtered(level, || JsonDrain::new(sink.clone())),
        LineFormat::Terminal(style) => filtered(level, || TerminalDrain::new(sink.clone(), style)),
    }
}

fn filtered<D>(level: &LevelFilter, drain: impl Fn() -> D) -> (Logger, Logger)
where
    D: Drain<Ok = (), Err = slog::Never>
        + Send
        + Sync
        + std::panic::UnwindSafe
        + std::panic::RefUnwindSafe
        + 'static,
{
    let level = level.clone();
    let keep = move |record: &slog::Record<'_>| level.keeps(record.level());
    (Logger::root(drain().filter(keep).fuse(), o!()), Logger::root(drain().fuse(), o!()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::log::sink::WriterCommand;

    /// G4, O2: the end waits for a writer thread that gets the CPU late, and not for a write that does not return
    #[test]
    fn the_end_waits_for_a_late_writer() {
        let stats = Arc::new(LogStats::new().unwrap());
        let control = LogControl {
            buffer: Arc::default(),
            stats: Arc::clone(&stats),
            level: LevelFilter::new(LogLevel::Info),
            format: LineFormat::Json,
            receivers: Arc::default(),
        };
        stats.begin_write();
        assert!(!control.shut_down(Duration::from_millis(10)));
        stats.end_write();
        let buffer = Arc::clone(&control.buffer);
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(buffer.wait_for_lines(&mut Vec::new()), WriterCommand::Stop);
            buffer.mark_stopped();
        });
        assert!(control.shut_down(Duration::from_millis(10)));
        late.join().unwrap();
    }
}
