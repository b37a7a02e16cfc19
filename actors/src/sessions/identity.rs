//! Who a client is, and the keys by which signatures show it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_config::PolicyConfig;

use crate::types::KeyId;

/// Who a client is.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientIdentity {
    /// Nobody in particular.
    Anonymous,
    /// Who holds this client key or API key.
    Key(KeyId),
    /// Who brought this token.
    Token(Arc<VerifiedToken>),
}

/// What a verified token says of who brings it.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedToken {
    /// Whom the issuer gave it to.
    pub subject: Option<String>,
    /// What it allows.
    pub policy: PolicyConfig,
    /// From when on it is worth nothing.
    pub expires: SystemTime,
    /// The key that it was verified with; the token holds only as long as that key does.
    pub verified_by: KeyFingerprint,
}

/// The fingerprint of a key that tokens are verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFingerprint(pub [u8; 32]);

/// The hash of a token, by which it is remembered: the cache holds nothing that could be presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// A number that is the same for the same token.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
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
    pub(crate) fn fingerprint(&self) -> u64 {
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
