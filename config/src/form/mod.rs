//! The forms a value can take: how it is read, what it accepts and how its default is written.
//!
//! A form is the type of a key: the check at start-up, the table of keys and the reference file all
//! ask the same object, so a documented range is the range that is enforced.
//!
//! Deliberately absent: relations between keys (each section checks its own after reading), and forms that
//! only one domain type needs (they stand beside that type).

mod duration;
mod moment;
mod number;
mod size;
mod text;

use crate::setting::Raw;

pub(crate) use duration::{millis, seconds, whole_seconds};
pub(crate) use moment::Moment;
pub(crate) use number::{decimal, nonzero, nonzero_size, percent, whole};
pub(crate) use size::{bytes, or_auto, or_unlimited};
pub(crate) use text::{Address, Choice, Domain, Flag, SecretText, Word, list, shown};

/// How values are spelt, as rows of Markdown: what people write, and what it means.
pub(crate) fn spellings() -> String {
    let [yes, no] = text::switches();
    format!(
        "| value | spelling |\n|---|---|\n\
         | duration | a number counts seconds, or milliseconds where the key ends with `_ms`; with a unit it is the same \
         everywhere: {}, also `0.5s` and `1m30s` |\n\
         | size | a number counts bytes, as with `B`; also fractions of a unit, such as `1.5GiB` |\n\
         | size, binary units | {} |\n| size, decimal units | {} |\n| switch | {yes}; {no} |\n",
        duration::units(),
        size::units(true),
        size::units(false),
    )
}

/// Why a value was refused, and what would be accepted in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hinting(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// At least one fault: a list can be wrong in several items at once.
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// The type of a key.
pub(crate) trait Form {
    /// what the key means once it is read
    type Value;

    /// Reads a raw value.
    fn parse(&self, raw: &Raw) -> Result<Self::Value, Faults>;

    /// Unit and range for the reference, such as `0–65535`.
    fn accepts(&self) -> String;

    /// Whether the value itself is a secret: then a variable that holds it does not stay in the environment (C5).
    fn is_secret(&self) -> bool {
        false
    }

    /// A value as a TOML file would spell it.
    fn show(&self, value: &Self::Value) -> String;
}
