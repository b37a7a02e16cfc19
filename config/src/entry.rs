//! What one walk records about a key.

use crate::effective::Shown;
use crate::fingerprint::Fingerprint;
use crate::setting::KeyPath;

/// The lines of a doc comment, each with its leading space.
pub(crate) type Docs = &'static [&'static str];

/// The documentation of a key, and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: KeyPath,
    pub(crate) docs: Docs,
    pub(crate) accepts: String,
    pub(crate) unit: Option<&'static str>,
    pub(crate) is_secret: bool,
    pub(crate) default: DefaultValue,
    /// the value in effect; `None` if the key has none
    pub(crate) value: Option<Shown>,
    /// the digest of what the value in effect hides
    pub(crate) fingerprint: Option<Fingerprint>,
    /// whether the key can have an effect: an s3 bucket has no keys of http
    pub(crate) is_applicable: bool,
}

/// The value of a key that is not set. `words` describe it if no fixed value is equivalent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DefaultValue {
    /// the default in TOML
    pub(crate) value: Option<String>,
    pub(crate) words: Option<&'static str>,
}
