//! What the sources said, before anyone knows whether it makes sense: paths and raw values with an origin.
//!
//! Every source is flattened to leaves, and a later source replaces a leaf of an earlier one. Lists are
//! leaves: a variable that names two endpoints replaces the file's three, it does not add to them.

use std::collections::BTreeMap;
use std::fmt;

use crate::form::Fault;
use crate::problem::Origin;

/// The prefix of every environment variable that tidegate reads.
pub(crate) const VARIABLE_PREFIX: &str = "TIDEGATE_";

/// The place of a value: `server.port` is two segments. Segments may hold dots, as bucket names do.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
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
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for (index, segment) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            if !segment.is_empty() && segment.chars().all(is_bare) {
                write!(f, "{dot}{segment}")?;
            } else {
                write!(f, "{dot}\"{}\"", segment.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// A value as its source spelt it.
///
/// Numbers and words of a file stay apart from quoted text, because YAML turns an unquoted `0123` into
/// 83 and a credential would change silently; a variable has no quotes, so its text may be either.
#[derive(Clone, PartialEq)]
pub(crate) enum Raw {
    /// quoted text of a file
    Text(String),
    /// a number or truth value of a file
    Bare(String),
    /// the text of an environment variable
    Variable(String),
    /// a list of a file
    List(Vec<Self>),
    /// nothing: an empty table, or a YAML key without a value
    Empty,
}

impl Raw {
    /// The text of a single value.
    pub(crate) fn scalar(&self) -> Result<&str, Fault> {
        match self {
            Self::Variable(text) if is_quoted(text) => Err(Fault::new(
                "is in quotes, which would be part of the value",
            )
            .hinting(
                "leave them out: docker --env-file keeps them; a secret that has them can stand in a file",
            )),
            Self::Text(text) | Self::Bare(text) | Self::Variable(text) => Ok(text),
            Self::List(_) => Err(Fault::new("must be one value, not a list")),
            Self::Empty => Err(Fault::new("has no value")),
        }
    }

    /// The text of a value that must not have been read as a number on its way here.
    pub(crate) fn text(&self) -> Result<&str, Fault> {
        match self {
            Self::Bare(_) => Err(Fault::new("must be text").hinting("put the value in quotes")),
            _ => self.scalar(),
        }
    }

    /// The items of a list; variables separate them by commas.
    pub(crate) fn items(&self) -> Result<Vec<Self>, Fault> {
        match self {
            Self::List(items) => Ok(items.clone()),
            Self::Variable(text) if text.trim().is_empty() => Ok(Vec::new()),
            Self::Variable(text) if is_within(text, '[', ']') => {
                Err(Fault::new("is in brackets").hinting("in a variable, commas separate the items: a,b,c"))
            }
            Self::Variable(text) => {
                Ok(text.split(',').map(|item| Self::Variable(item.trim().to_owned())).collect())
            }
            Self::Empty => Err(Fault::new("has no value")),
            Self::Text(_) | Self::Bare(_) => Err(Fault::new("must be a list").hinting("put it in brackets")),
        }
    }
}

/// A shell takes quotes away; what reads a file of variables may not.
fn is_quoted(text: &str) -> bool {
    is_within(text, '"', '"') || is_within(text, '\'', '\'')
}

fn is_within(text: &str, open: char, close: char) -> bool {
    text.trim().strip_prefix(open).is_some_and(|rest| rest.ends_with(close))
}

/// A raw value and where it came from.
pub(crate) struct Setting {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

/// The merged sources.
pub(crate) type Settings = BTreeMap<KeyPath, Setting>;
