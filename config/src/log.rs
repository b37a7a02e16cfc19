//! Where the log goes, in which shape, and how much of it.

use std::path::PathBuf;

use crate::form::{Choice, Fault, Faults, Flag, Form, Word, list, shown};
use crate::section::section;
use crate::setting::Raw;
use crate::walk::key;

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// for people if the output is a terminal, otherwise JSON
    Auto,
    /// one JSON object a line
    Json,
    /// for people
    Terminal,
}

/// The least severe messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// what stops the gateway or loses a request through its own fault
    Error,
    /// what an operator should look at
    Warn,
    /// what an operator wants to have seen
    Info,
    /// what explains a decision
    Debug,
    /// everything
    Trace,
}

/// Where log lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// the standard output
    Stdout,
    /// the standard error output
    Stderr,
    /// a file, appended to
    File(PathBuf),
}

struct Output;

impl Form for Output {
    type Value = LogOutput;

    fn parse(&self, raw: &Raw) -> Result<LogOutput, Faults> {
        match raw.text()? {
            "" => Err(Fault::new("is empty").into()),
            word if word.eq_ignore_ascii_case("stdout") => Ok(LogOutput::Stdout),
            word if word.eq_ignore_ascii_case("stderr") => Ok(LogOutput::Stderr),
            path => Ok(LogOutput::File(PathBuf::from(path))),
        }
    }

    fn accepts(&self) -> String {
        "stdout, stderr, or the path of a file".to_owned()
    }

    fn show(&self, value: &LogOutput) -> String {
        match value {
            LogOutput::Stdout => "\"stdout\"".to_owned(),
            LogOutput::Stderr => "\"stderr\"".to_owned(),
            LogOutput::File(path) => shown(&path.to_string_lossy()),
        }
    }
}

const FORMATS: Choice<LogFormat> =
    Choice(&[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("terminal", LogFormat::Terminal)]);
/// A level, also by the name that syslog and Python give it.
struct Level;

impl Form for Level {
    type Value = LogLevel;

    fn parse(&self, raw: &Raw) -> Result<LogLevel, Faults> {
        match raw.scalar()?.trim() {
            word if word.eq_ignore_ascii_case("warning") => Ok(LogLevel::Warn),
            _ => LEVELS.parse(raw),
        }
    }

    fn accepts(&self) -> String {
        LEVELS.accepts()
    }

    fn show(&self, value: &LogLevel) -> String {
        LEVELS.show(value)
    }
}

const LEVELS: Choice<LogLevel> = Choice(&[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
]);

section! {
    /// The log.
    pub struct LogConfig {
        /// shape of a log line; `auto` writes for people on a terminal and JSON elsewhere
        pub format: LogFormat = key("format", FORMATS, LogFormat::Auto);
        /// least severe messages that are logged
        ///
        /// `debug` explains decisions and is meant for hours, not weeks.
        pub level: LogLevel = key("level", Level, LogLevel::Info);
        /// whether each request writes an access line
        ///
        /// Turn it off where something in front of the gateway already logs.
        pub access: bool = key("access", Flag, true);
        /// names of query and path parameters with a secret value, which the log replaces by `redacted`, besides the usual ones
        ///
        /// The usual ones are those of signatures, tokens, keys, passwords, secrets, codes and sessions. Case, `-`, `_` and `.`
        /// in a name do not matter.
        pub redact: Vec<String> = key("redact", list(Word("name of a parameter")), Vec::new());
        /// where lines are written
        pub output: LogOutput = key("output", Output, LogOutput::Stdout);
    }
}
