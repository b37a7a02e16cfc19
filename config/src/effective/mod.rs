//! The effective configuration: every key with its value, its origin, its range and its meaning.
//!
//! The list is made from the entries of the walk that read the configuration, so its keys are those of `docs/configuration.md`. A key of
//! a bucket has the bucket's name. Keys of the other kind of bucket are left out.
//!
//! `diff.rs` compares two of them.
//!
//! No value is a secret: a secret is shown as `(set)` or `(not set)` (C4), and the query of a path as `(hidden)`.

mod compact;
mod diff;
mod literal;
mod pairs;
mod text;

use crate::problem::Origin;
use crate::reference::page::paragraphs;
use crate::schema::{Docs, Walk};
use crate::setting::Raw;
use crate::value_type::toml_text;

use compact::{CompactKey, Compactor};

pub use diff::{ConfigDiff, KeyChange, KeyChangeKind};
pub use literal::Literal;

/// In place of a secret that is not set.
pub const NOT_SET: &str = "(not set)";

/// A value in effect, as the output shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// in TOML
    Toml(String),
    /// in its place, because the value is a secret or holds one
    Hidden(String),
}

impl Shown {
    /// A secret that is set.
    pub(crate) fn secret() -> Self {
        Self::Hidden("(set)".to_owned())
    }

    /// The path of a file with a secret.
    pub(crate) fn path(raw: Option<&Raw>) -> Self {
        let path = raw.and_then(|raw| raw.text().ok());
        path.map_or_else(Self::secret, |path| Self::Toml(toml_text(path)))
    }
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectiveValue {
    /// no value
    Absent,
    /// a value, in TOML
    Toml(String),
    /// the text in place of a secret
    Hidden(String),
}

/// One key of the effective configuration.
#[derive(Debug, Clone)]
pub struct EffectiveKey {
    /// the key, such as `buckets.photos.s3.timeout`
    pub key: String,
    /// its value
    pub value: EffectiveValue,
    /// the unit of its number
    pub unit: Option<&'static str>,
    /// where its value is set
    pub origin: Origin,
    /// the line of the file, if the parser gives it
    pub line: Option<usize>,
    /// the value while the key is not set, in TOML, if it is fixed
    pub default: Option<String>,
    /// what holds while the key is not set, if there is no fixed default
    pub default_text: Option<&'static str>,
    /// the accepted values: type and range
    pub accepts: String,
    /// whether a file may set the key to its value without another effect
    is_independent: bool,
    docs: Docs,
}

impl EffectiveKey {
    /// Whether no source sets it.
    pub fn is_default(&self) -> bool {
        self.origin == Origin::Default
    }

    /// What the key affects: the first paragraph of its documentation.
    pub fn about(&self) -> String {
        paragraphs(self.docs).0
    }

    /// Its value without the spelling of TOML; none if it is absent or hidden. Sizes are in bytes.
    pub fn literal(&self) -> Option<Literal> {
        match &self.value {
            EffectiveValue::Toml(value) => Literal::parse(value, self.unit),
            EffectiveValue::Absent | EffectiveValue::Hidden(_) => None,
        }
    }

    /// The same of its fixed default.
    pub fn default_literal(&self) -> Option<Literal> {
        Literal::parse(self.default.as_deref()?, self.unit)
    }
}

/// Every key of a configuration, in the order of the declarations.
#[derive(Debug, Clone, Default)]
pub struct EffectiveConfig {
    keys: Vec<CompactKey>,
}

impl EffectiveConfig {
    pub(crate) fn of(walk: &Walk) -> Self {
        let mut compactor = Compactor::new(walk);
        let entries = walk.entries.iter().filter(|entry| entry.is_applicable);
        let mut keys = Vec::with_capacity(walk.entries.len());
        keys.extend(entries.filter_map(|entry| compactor.key(entry)));
        keys.shrink_to_fit();
        Self { keys }
    }

    /// Whether a bucket is configured.
    pub fn has_buckets(&self) -> bool {
        self.keys.iter().any(|key| key.top_section() == Some("buckets"))
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = EffectiveKey> {
        self.keys.iter().map(CompactKey::expand)
    }

    /// The keys that begin with one of these texts, or all keys if there is no text.
    ///
    /// # Errors
    /// No key begins with this text.
    pub fn select(&self, prefixes: &[String]) -> Result<Vec<EffectiveKey>, String> {
        let keys: Vec<EffectiveKey> = self.keys().collect();
        let begins = |key: &EffectiveKey, prefix: &String| key.key.starts_with(prefix.as_str());
        let is_unknown = |prefix: &&String| !keys.iter().any(|key| begins(key, prefix));
        if let Some(unknown) = prefixes.iter().find(is_unknown) {
            return Err(unknown.clone());
        }
        let is_selected =
            |key: &EffectiveKey| prefixes.is_empty() || prefixes.iter().any(|prefix| begins(key, prefix));
        Ok(keys.into_iter().filter(is_selected).collect())
    }

    /// These keys as a TOML file; with `origins` also where each value is set, its range and its meaning.
    ///
    /// `notes` are comments above the line of a key.
    pub fn text(
        keys: &[EffectiveKey],
        origins: bool,
        notes: impl Fn(&EffectiveKey) -> Vec<String>,
    ) -> String {
        text::file(keys, origins, notes)
    }
}
