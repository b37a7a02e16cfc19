//! The session ID, parsed: only short IDs of plain characters reach the cache.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use thiserror::Error;

/// Maximum length of an ID in bytes.
const BYTES_MAX: usize = 128;

/// A session ID: 1 to 128 letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

/// Why a text is no session ID. The error does not contain the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidSessionId {
    /// It is empty or too long.
    #[error("a session ID must have 1 to {BYTES_MAX} characters; this one has {bytes}")]
    Length {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has a character that is not a letter, digit or hyphen.
    #[error(
        "a session ID may have only letters, digits and hyphens; the character at byte {at} is not allowed"
    )]
    Character {
        /// The byte offset of the character.
        at: usize,
    },
}

impl SessionId {
    /// Parses a session ID.
    ///
    /// It is empty, too long, or has a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionId> {
        if text.is_empty() || text.len() > BYTES_MAX {
            return Err(InvalidSessionId::Length { bytes: text.len() });
        }
        match text.bytes().position(|byte| !byte.is_ascii_alphanumeric() && byte != b'-') {
            Some(at) => Err(InvalidSessionId::Character { at }),
            None => Ok(Self(text.into())),
        }
    }

    /// Fingerprint for `ActorMessage::message_fingerprint`.
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
