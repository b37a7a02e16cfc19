//! The log: output, format and level.

use std::path::PathBuf;

use crate::schema::key;
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{Choice, Flag, ValueError, ValueErrors, ValueType, Word, bytes, list, toml_text};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// readable text on a terminal, otherwise JSON
    Auto,
    /// one JSON object per line
    Json,
    /// readable text
    Terminal,
}

/// The least severe messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// failures that stop the gateway or lose a request by an error of the gateway
    Error,
    /// problems that an operator should check
    Warn,
    /// normal events of interest
    Info,
    /// reasons of decisions
    Debug,
    /// all messages
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

impl ValueType for Output {
    type Value = LogOutput;

    fn parse(&self, raw: &Raw) -> Result<LogOutput, ValueErrors> {
        match raw.text()? {
            "" => Err(ValueError::new("is empty").into()),
            word if word.eq_ignore_ascii_case("stdout") => Ok(LogOutput::Stdout),
            word if word.eq_ignore_ascii_case("stderr") => Ok(LogOutput::Stderr),
            path => Ok(LogOutput::File(PathBuf::from(path))),
        }
    }

    fn accepts(&self) -> String {
        "stdout, stderr, or the path of a file".to_owned()
    }

    fn to_toml(&self, value: &LogOutput) -> String {
        match value {
            LogOutput::Stdout => "\"stdout\"".to_owned(),
            LogOutput::Stderr => "\"stderr\"".to_owned(),
            LogOutput::File(path) => toml_text(&path.to_string_lossy()),
        }
    }
}

const FORMATS: Choice<LogFormat> =
    Choice(&[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("terminal", LogFormat::Terminal)]);

/// A level; `warning` is accepted for `warn`, as in syslog and Python.
struct Level;

impl ValueType for Level {
    type Value = LogLevel;

    fn parse(&self, raw: &Raw) -> Result<LogLevel, ValueErrors> {
        match raw.scalar()?.trim() {
            word if word.eq_ignore_ascii_case("warning") => Ok(LogLevel::Warn),
            _ => LEVELS.parse(raw),
        }
    }

    fn accepts(&self) -> String {
        LEVELS.accepts()
    }

    fn to_toml(&self, value: &LogLevel) -> String {
        LEVELS.to_toml(value)
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
        /// format of log lines; `auto` writes readable text to a terminal and JSON elsewhere
        pub format: LogFormat = key("format", FORMATS, LogFormat::Auto);
        /// lowest severity that is logged
        ///
        /// `debug` explains decisions. Its volume suits hours, not weeks.
        pub level: LogLevel = key("level", Level, LogLevel::Info);
        /// writes an access log line for each request
        ///
        /// Set it to false if a proxy in front of the gateway already logs the requests.
        pub access: bool = key("access", Flag, true);
        /// writes a log line for each decision: refusals, waits in a queue, retries, hedges, ejections and transitions
        ///
        /// `GET /decisions` on the admin listener shows the newest ones without it.
        pub decisions: bool = key("decisions", Flag, false);
        /// memory for the newest decisions, which `GET /decisions` and `GET /explain` show; the workers share it; 0 keeps none
        ///
        /// 2 MiB hold about 8,000 decisions. Older ones are overwritten. The counts of all decisions are exact in any case.
        pub decision_memory: u64 = key("decision_memory", bytes(0..=1 << 30), 2 << 20);
        /// more query and path parameters with secret values; the log replaces the values by `redacted`
        ///
        /// The usual names are redacted in any case: those of signatures, tokens, keys, passwords, secrets, codes and sessions. Case,
        /// `-`, `_` and `.` in a name do not matter.
        pub redact: Vec<String> = key("redact", list(Word("name of a parameter")), Vec::new());
        /// output of the log
        pub output: LogOutput = key("output", Output, LogOutput::Stdout);
    }
}
