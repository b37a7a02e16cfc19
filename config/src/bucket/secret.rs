//! Text that must not be seen (C4).
//!
//! `Debug` redacts, there is no `Display`, the one way to the text is a method that is easy to search for, and the
//! memory is wiped when the last holder drops it (C5). What the parsers of files and variables copied on the way here is
//! freed at the start, but not wiped: their memory is theirs.

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

    /// The text itself, for signing and for nothing else.
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
