//! Value types of keys: how a value is parsed, which values are accepted, and how a default is written.
//!
//! The check at the start, `docs/configuration.md` and `default.toml` use the same object, so a documented range is the enforced
//! range.
//!
//! This module does not check keys against each other: each section does that after reading. A value type that only one domain type
//! needs is in the module of that type.

mod duration;
mod number;
mod size;
mod text;
mod timestamp;

use crate::effective::Shown;
use crate::fingerprint::Fingerprint;
use crate::setting::Raw;

pub(crate) use duration::{Seconds, millis, seconds, whole_seconds};
pub(crate) use number::{decimal, nonzero, nonzero_size, percent, whole};
pub(crate) use size::{UNIT as SIZE_UNIT, bytes, or_auto, or_unlimited, parsed as parsed_size};
pub(crate) use text::{
    Address, Choice, Domain, Flag, List, SecretText, Word, is_http_token, list, quoted, toml_text,
};
pub(crate) use timestamp::Timestamp;

/// The spelling of values, as a Markdown table.
pub(crate) fn spellings() -> String {
    let [yes, no] = text::boolean_words();
    format!(
        "| value | spelling |\n|---|---|\n\
         | duration | a number is in seconds, or in milliseconds if the key ends with `_ms`; units: {}; also `0.5s`, `1m30s` |\n\
         | size | a number is in bytes, as with the unit `B`; fractions of larger units are allowed: `1.5GiB` |\n\
         | size, binary units | {} |\n| size, decimal units | {} |\n| true or false | {yes}; {no} |\n",
        duration::units(),
        size::units(true),
        size::units(false),
    )
}

/// Why a value is invalid, and the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl ValueError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// At least one error: several items of a list can be invalid.
pub(crate) struct ValueErrors(pub(crate) Vec<ValueError>);

impl From<ValueError> for ValueErrors {
    fn from(error: ValueError) -> Self {
        Self(vec![error])
    }
}

/// The type of a key.
pub(crate) trait ValueType {
    /// the parsed value
    type Value: PartialEq;

    /// Parses a raw value.
    fn parse(&self, raw: &Raw) -> Result<Self::Value, ValueErrors>;

    /// Unit and range for the reference, such as `0–65535`.
    fn accepts(&self) -> String;

    /// Whether the value itself is a secret: a variable with a secret is removed from the environment (C5).
    fn is_secret(&self) -> bool {
        false
    }

    /// The unit of a number.
    fn unit(&self) -> Option<&'static str> {
        None
    }

    /// A value as the effective configuration shows it; `raw` is the setting, if there is one.
    fn shown(&self, value: &Self::Value, _raw: Option<&Raw>) -> Shown {
        Shown::Toml(self.to_toml(value))
    }

    /// The digest of what `shown` hides: a secret, or the content of a file.
    fn fingerprint(&self, _value: &Self::Value) -> Option<Fingerprint> {
        None
    }

    /// A value in TOML.
    fn to_toml(&self, value: &Self::Value) -> String;
}
