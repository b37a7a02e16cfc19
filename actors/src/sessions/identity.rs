//! Who a client is, and the keys by which signatures show it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::types::KeyId;

/// Who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular.
    Anonymous,
    /// Who holds this client key.
    Key(KeyId),
}

/// The client key, day and region that a signing key is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SigningKeyId {
    key: KeyId,
    date: Box<str>,
    region: Box<str>,
}

impl SigningKeyId {
    /// Names a signing key.
    pub fn new(key: KeyId, date: &str, region: &str) -> Self {
        Self { key, date: date.into(), region: region.into() }
    }

    /// A number that is the same for the same name.
    pub(crate) fn likeness(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// What signatures of one client key, day and region are made with. It is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// Wraps a derived key.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The key itself, for verifying and for nothing else.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C4
    #[test]
    fn debug_shows_nothing_of_a_key() {
        assert_eq!(format!("{:?}", SigningKey::new([7; 32])), "SigningKey(redacted)");
    }
}
