//! The values of the sources before validation: key paths, and raw values with their origin.
//!
//! Every source is flattened to leaves, and a later source replaces a leaf of an earlier one. A list is one leaf: a variable with
//! two endpoints replaces the three of the file, it does not add to them.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroize as _;

use crate::problem::Origin;
use crate::value_type::ValueError;

/// The prefix of every environment variable that tidegate reads.
pub(crate) const VARIABLE_PREFIX: &str = "TIDEGATE_";

/// The path of a key: `server.port` has two segments. Segments may contain dots, as bucket names do.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyPath(Vec<String>);

impl KeyPath {
    pub(crate) fn new(segments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(segments.into_iter().map(Into::into).collect())
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        Self::new(self.0.iter().map(String::as_str).chain([name]))
    }

    pub(crate) fn segments(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn is_within(&self, section: &Self) -> bool {
        self.0.starts_with(&section.0)
    }

    /// The path without its last segment, and that segment.
    pub(crate) fn split_last(&self) -> Option<(Self, &str)> {
        let (last, section) = self.0.split_last()?;
        Some((Self(section.to_vec()), last))
    }

    /// The key that an environment variable sets.
    pub(crate) fn of_variable(variable: &str) -> Self {
        let name = variable.strip_prefix(VARIABLE_PREFIX).unwrap_or(variable);
        Self::new(name.to_lowercase().split("__"))
    }

    /// The environment variable that sets this key.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.0.join("__").to_uppercase())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            if !segment.is_empty() && segment.bytes().all(is_bare) {
                f.write_str(segment)?;
            } else {
                write!(f, "\"{}\"", segment.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// A value as its source gives it.
///
/// Numbers and bare words of a file are distinct from quoted text: YAML turns an unquoted `0123` into 83, which would change a
/// credential silently. A variable has no quotes, so its text may be either.
#[derive(Clone, PartialEq)]
pub(crate) enum Raw {
    /// quoted text of a file
    Text(String),
    /// a number or a boolean of a file
    Bare(String),
    /// the text of an environment variable
    Variable(String),
    /// a list of a file
    List(Vec<Self>),
    /// no value: an empty table, or a YAML key without a value
    Empty,
}

impl Raw {
    /// The text of a single value.
    pub(crate) fn scalar(&self) -> Result<&str, ValueError> {
        match self {
            Self::Variable(text) if is_quoted(text) => Err(ValueError::new(
                "has quotes, which would become part of the value",
            )
            .with_hint(
                "remove them: docker --env-file does not strip quotes; a secret with quotes can be put into a file",
            )),
            Self::Text(text) | Self::Bare(text) | Self::Variable(text) => Ok(text),
            Self::List(_) => Err(ValueError::new("must be one value, not a list")),
            Self::Empty => Err(ValueError::new("has no value")),
        }
    }

    /// The text of a value that the parser of the file must not have converted to a number.
    pub(crate) fn text(&self) -> Result<&str, ValueError> {
        match self {
            Self::Bare(_) => Err(ValueError::new("must be text").with_hint("put the value into quotes")),
            _ => self.scalar(),
        }
    }

    /// The items of a list; commas separate them in a variable.
    pub(crate) fn items(&self) -> Result<Vec<Self>, ValueError> {
        match self {
            Self::List(items) => Ok(items.clone()),
            Self::Variable(text) if text.trim().is_empty() => Ok(Vec::new()),
            Self::Variable(text) if is_within(text, '[', ']') => {
                Err(ValueError::new("has brackets")
                    .with_hint("in a variable, commas separate the items: a,b,c"))
            }
            Self::Variable(text) => {
                Ok(text.split(',').map(|item| Self::Variable(item.trim().to_owned())).collect())
            }
            Self::Empty => Err(ValueError::new("has no value")),
            Self::Text(_) | Self::Bare(_) => {
                Err(ValueError::new("must be a list").with_hint("put the value into brackets"))
            }
        }
    }
}

/// A shell strips quotes; a program that reads a file of variables may not.
fn is_quoted(text: &str) -> bool {
    is_within(text, '"', '"') || is_within(text, '\'', '\'')
}

fn is_within(text: &str, open: char, close: char) -> bool {
    text.trim().strip_prefix(open).is_some_and(|rest| rest.ends_with(close))
}

/// A raw value and where it was set.
pub(crate) struct Setting {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
    /// the line of its key in a file, if the parser gives it
    pub(crate) line: Option<usize>,
}

/// A value may be a secret (C4), and each reload reads all values again.
impl Drop for Setting {
    fn drop(&mut self) {
        match &mut self.raw {
            Raw::Text(text) | Raw::Bare(text) | Raw::Variable(text) => text.zeroize(),
            // no list holds secrets
            Raw::List(_) | Raw::Empty => {}
        }
    }
}

/// The merged sources.
pub(crate) type Settings = BTreeMap<KeyPath, Setting>;
