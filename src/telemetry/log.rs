//! The logger, as the `log` section asks for it.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use slog::{Drain, Level, Logger, o};
use thiserror::Error;
use tidegate_config::{LogConfig, LogFormat, LogLevel, LogOutput};

use crate::telemetry::json::JsonDrain;
use crate::telemetry::sink::{self, SinkGuard};
use crate::telemetry::terminal::Escaping;

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("log.output: cannot open {} for writing: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The writer thread did not start.
    #[error("cannot start the log writer: {0}")]
    Thread(io::Error),
}

/// Builds the logger; lines are flushed when the guard is dropped.
///
/// # Errors
/// The log file cannot be opened, or the writer thread cannot be started.
pub fn build(config: &LogConfig) -> Result<(Logger, Option<SinkGuard>), LogError> {
    let to_terminal = match config.output {
        LogOutput::Stdout => io::stdout().is_terminal(),
        LogOutput::Stderr => io::stderr().is_terminal(),
        LogOutput::File(_) => false,
    };
    let terminal = match config.format {
        LogFormat::Terminal => true,
        LogFormat::Json => false,
        LogFormat::Auto => to_terminal,
    };
    let level = match config.level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    };
    let keep = move |record: &slog::Record<'_>| record.level().is_at_least(level);
    if terminal && !matches!(config.output, LogOutput::File(_)) {
        let decorator = match config.output {
            LogOutput::Stderr => slog_term::TermDecorator::new().stderr().build(),
            _ => slog_term::TermDecorator::new().stdout().build(),
        };
        let drain = std::sync::Mutex::new(slog_term::FullFormat::new(Escaping(decorator)).build()).fuse();
        return Ok((Logger::root(drain.filter(keep).fuse(), o!()), None));
    }
    let out: Box<dyn Write + Send> = match &config.output {
        LogOutput::Stdout => Box::new(io::stdout()),
        LogOutput::Stderr => Box::new(io::stderr()),
        LogOutput::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Box::new(file.map_err(|source| LogError::Open { path: path.clone(), source })?)
        }
    };
    let (sink, guard) = sink::start(out).map_err(LogError::Thread)?;
    if terminal {
        let decorator = slog_term::PlainSyncDecorator::new(SinkWriter { sink, line: Vec::new() });
        let drain = slog_term::FullFormat::new(Escaping(decorator)).build().fuse();
        return Ok((Logger::root(drain.filter(keep).fuse(), o!()), Some(guard)));
    }
    Ok((Logger::root(JsonDrain::new(sink).filter(keep).fuse(), o!()), Some(guard)))
}

/// Terminal format into a file goes the same way as JSON.
struct SinkWriter {
    sink: sink::Sink,
    line: Vec<u8>,
}

impl Write for SinkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.push(&self.line);
        self.line.clear();
        Ok(())
    }
}
