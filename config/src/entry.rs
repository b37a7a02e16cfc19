//! What one walk records about a key.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::effective::Shown;
use crate::fingerprint::Fingerprint;
use crate::section_tree::SectionId;
use crate::setting::KeyPath;

/// The lines of a doc comment, each with its leading space.
pub(crate) type Docs = &'static [&'static str];

/// The path of a key. All keys of a section share the path of the section.
#[derive(Debug, Clone)]
pub(crate) struct EntryPath {
    pub(crate) section: Arc<KeyPath>,
    pub(crate) name: &'static str,
}

impl EntryPath {
    pub(crate) fn whole(&self) -> KeyPath {
        self.section.child(self.name)
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole().fmt(f)
    }
}

/// The documentation of a key, and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) section: SectionId,
    pub(crate) path: EntryPath,
    pub(crate) docs: Docs,
    /// the accepted values; only a survey has this text
    pub(crate) accepts: String,
    pub(crate) unit: Option<&'static str>,
    pub(crate) is_secret: bool,
    pub(crate) default: DefaultValue,
    /// the position of its setting
    pub(crate) setting: Option<usize>,
    /// the value in effect
    pub(crate) value: ValueInEffect,
    /// the digest of what the value in effect hides
    pub(crate) fingerprint: Option<Fingerprint>,
    /// whether the key can have an effect: an s3 bucket has no keys of http
    pub(crate) is_applicable: bool,
}

impl Entry {
    /// The value in effect as the output shows it; none if the key has none. `template` is the same key of a survey.
    pub(crate) fn shown<'e>(&'e self, template: &Self) -> Option<Cow<'e, Shown>> {
        match &self.value {
            ValueInEffect::Absent => None,
            ValueInEffect::Default => {
                template.default.value.clone().map(|text| Cow::Owned(Shown::Toml(text)))
            }
            ValueInEffect::Own(shown) => Some(Cow::Borrowed(shown)),
        }
    }

    /// Whether its value in effect differs from that of the same key of a survey.
    pub(crate) fn differs_from(&self, template: &Self) -> bool {
        let is_same = match (&self.value, &template.value) {
            (ValueInEffect::Absent, ValueInEffect::Absent)
            | (ValueInEffect::Default, ValueInEffect::Default) => true,
            _ => self.shown(template) == template.shown(template),
        };
        !is_same || self.fingerprint != template.fingerprint
    }
}

/// The value of a key in effect.
#[derive(Debug)]
pub(crate) enum ValueInEffect {
    /// no value
    Absent,
    /// the fixed default, because no source sets the key
    Default,
    /// the value of a source, or one that follows another key
    Own(Shown),
}

/// The value of a key that is not set. `words` describe it if no fixed value is equivalent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DefaultValue {
    /// the default in TOML; only a survey has this text
    pub(crate) value: Option<String>,
    pub(crate) words: Option<&'static str>,
}
