//! Secrets that no output may show (C4).
//!
//! `Debug` redacts, there is no `Display`, and only the method `expose` gives the text. The memory is zeroized when the secret is dropped
//! (C5), as are the texts of files and the merged settings. Copies in the parsers of files are freed after each load, but not zeroized: the
//! parsers own their memory.

use std::fmt;

use zeroize::Zeroizing;

/// A secret: a credential's text that no log, error or status may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for signing and comparison only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C4
    #[test]
    fn debug_shows_nothing_of_the_text() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(redacted)");
        assert_eq!(Secret::new("hunter2").expose(), "hunter2");
    }
}
