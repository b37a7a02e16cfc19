//! The session ID, parsed: what reaches the cache is short and plain.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use thiserror::Error;

/// The longest ID.
const BYTES_MAX: usize = 128;

/// A session's name: letters, digits and hyphens, 1 to 128 of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

/// A text that is no session ID. It is not repeated here: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidSessionId {
    /// It has no or too many characters.
    #[error("a session id has 1 to {BYTES_MAX} characters, this one {bytes}")]
    Length {
        /// Its bytes.
        bytes: usize,
    },
    /// It has another character than letters, digits and hyphens.
    #[error("a session id has only letters, digits and hyphens, not what stands at byte {at}")]
    Character {
        /// Where.
        at: usize,
    },
}

impl SessionId {
    /// Takes a text for a session ID.
    ///
    /// # Errors
    /// It is empty, too long, or has a character that does not belong there.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionId> {
        if text.is_empty() || text.len() > BYTES_MAX {
            return Err(InvalidSessionId::Length { bytes: text.len() });
        }
        match text.bytes().position(|byte| !byte.is_ascii_alphanumeric() && byte != b'-') {
            Some(at) => Err(InvalidSessionId::Character { at }),
            None => Ok(Self(text.into())),
        }
    }

    /// A number that is the same for the same ID.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C1
    #[test]
    fn letters_digits_and_hyphens_up_to_128_are_an_id() {
        for good in ["a", "-", "Session-42", &"x".repeat(128)] {
            assert!(SessionId::parse(good).is_ok(), "{good}");
        }
        for (bad, error) in [
            ("", InvalidSessionId::Length { bytes: 0 }),
            (&*"x".repeat(129), InvalidSessionId::Length { bytes: 129 }),
            ("a_b", InvalidSessionId::Character { at: 1 }),
            ("a b", InvalidSessionId::Character { at: 1 }),
            ("é", InvalidSessionId::Character { at: 0 }),
            ("abc\r\n", InvalidSessionId::Character { at: 3 }),
            ("abc\0", InvalidSessionId::Character { at: 3 }),
        ] {
            assert_eq!(SessionId::parse(bad), Err(error), "{bad:?}");
        }
    }
}
