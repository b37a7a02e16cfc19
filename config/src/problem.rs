//! Problems of a configuration.
//!
//! A problem names the key, the origin of its value, the error and, if possible, the fix. All problems are collected and reported
//! together, so that a user fixes a file in one round. One problem is one line. There are no error codes and no nesting; a program
//! that needs the parts reads the fields.

use std::fmt;
use std::path::PathBuf;

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// not set: the documented default applies, if there is one
    Default,
    /// the `--config` argument
    CommandLine,
    /// a configuration file
    File(PathBuf),
    /// an environment variable, by name
    Variable(String),
    /// no source: a property of the machine
    System,
}

impl Origin {
    /// The origin beside a value: `default` instead of `not set`.
    pub(crate) fn of_value(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("not set"),
            Self::CommandLine => f.write_str("from --config"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Variable(name) => write!(f, "from {name}"),
            Self::System => f.write_str("this machine"),
        }
    }
}

/// One problem. Its `Display` is one line and never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// the key, such as `server.port`
    pub key: String,
    /// the origin of the invalid value
    pub source: Origin,
    /// the line of the key in the file, if the parser gives it
    pub line: Option<usize>,
    /// the error, in lower case and without a full stop
    pub message: String,
    /// the fix, if one is known
    pub hint: Option<String>,
}

impl Problem {
    /// A configuration without buckets is to replace one that has some.
    pub(crate) fn no_buckets_left() -> Self {
        let message = "none is configured, and a gateway that runs needs one";
        let hint = "configure a bucket; if the file was cut off, write it aside and rename it".to_owned();
        Self::of_process("buckets", message, Some(hint))
    }

    /// A problem of the machine or of the process, with its fix.
    pub fn of_process(key: impl Into<String>, message: impl Into<String>, hint: Option<String>) -> Self {
        Self { key: key.into(), source: Origin::System, line: None, message: message.into(), hint }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        if self.source != Origin::System {
            write!(f, " ({})", self.source)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// All problems, one per line; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Makes an error of these problems; an error never has an empty list.
    ///
    /// # Errors
    /// There is a problem.
    pub fn none_or(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// The problems in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Warnings: settings that are valid but probably do not have the intended effect (G12).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    warnings: Vec<Problem>,
    notes: Vec<Problem>,
}

impl Warnings {
    pub(crate) fn new(warnings: Vec<Problem>, notes: Vec<Problem>) -> Self {
        Self { warnings, notes }
    }

    /// Adds a warning about a key; `hint` is the fix.
    pub fn add(&mut self, key: impl Into<String>, message: impl Into<String>, hint: Option<String>) {
        self.warnings.push(Problem::of_process(key, message, hint));
    }

    /// The warnings in the order in which they were found; with `--strict` each of them is an error.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.warnings.iter()
    }

    /// Settings that were ignored on purpose. The user did not write them, so `--strict` does not make them errors.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// Turns the warnings into errors.
    ///
    /// # Errors
    /// There is a warning.
    pub fn refuse(self) -> Result<(), Problems> {
        Problems::none_or(self.warnings)
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
