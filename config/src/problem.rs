//! What is wrong with a configuration, said so that the reader can fix it without opening the manual.
//!
//! A problem names the key, where its value came from, what is wrong and, where one can be guessed, the
//! remedy. Problems are collected and reported together: a person who fixes a file wants one round, not ten.
//!
//! Deliberately absent: error codes and nesting. One problem is one line; a program that needs the parts
//! reads the fields.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// nobody set it: the documented default holds, or nothing does
    Default,
    /// the `--config` argument
    CommandLine,
    /// a configuration file
    File(PathBuf),
    /// an environment variable, by name
    Variable(String),
    /// no source: what the machine is like
    System,
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

/// One thing that is wrong. Its `Display` is one line and never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// the key as a file would spell it, such as `server.port`
    pub key: String,
    /// where the offending value came from
    pub source: Origin,
    /// what is wrong, in lower case and without a full stop
    pub message: String,
    /// what would put it right, where that can be guessed
    pub hint: Option<String>,
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

/// Everything that is wrong, one problem a line; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Err` where anything is wrong, so that an empty list of problems cannot be mistaken for an error.
    pub(crate) fn none_or(problems: Vec<Problem>) -> Result<(), Self> {
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

/// What is legal in a configuration and has probably not the effect that its writer expects (G12).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    warnings: Vec<Problem>,
    notes: Vec<Problem>,
}

impl Warnings {
    pub(crate) fn new(warnings: Vec<Problem>, notes: Vec<Problem>) -> Self {
        Self { warnings, notes }
    }

    /// Adds a warning about a key; `hint` says what would end it.
    pub fn add(&mut self, key: impl Into<String>, message: impl Into<String>, hint: Option<String>) {
        self.warnings.push(Problem {
            key: key.into(),
            source: Origin::System,
            message: message.into(),
            hint,
        });
    }

    /// The warnings in the order in which they were found; with `--strict` each of them is an error.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.warnings.iter()
    }

    /// What was ignored on purpose. Nobody wrote it, so that it is no error with `--strict`.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// The warnings as errors; none if there are none.
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
