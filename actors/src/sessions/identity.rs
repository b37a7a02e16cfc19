//! Client identities, verified tokens and signing keys.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_config::PolicyConfig;
use zeroize::Zeroize as _;

use crate::types::KeyId;

/// The identity of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientIdentity {
    /// An unauthenticated client.
    Anonymous,
    /// The holder of a client key or API key.
    Key(KeyId),
    /// The bearer of a token.
    Token(Arc<VerifiedToken>),
}

/// The content of a verified token.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedToken {
    /// The subject (`sub`), if the token has one.
    pub subject: Option<String>,
    /// The policy that applies to its requests.
    pub policy: PolicyConfig,
    /// When it expires.
    pub expires: SystemTime,
    /// The key that verified it. The token is valid only as long as that key is.
    pub verified_by: KeyFingerprint,
}

/// The fingerprint of a key that verifies tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFingerprint(pub [u8; 32]);

/// The hash of a token, used as the cache key: the cache holds nothing that a client could present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Fingerprint for `ActorMessage::message_fingerprint`.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The fingerprint of what clients prove a key with: its access key ID, secret and session token. It is a keyed hash, which
/// reveals nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialFingerprint(pub u128);

/// The client key, the fingerprint of its secret, date and region of a signing key.
///
/// A key that gets another secret keeps its [`KeyId`]. With the fingerprint no request finds a signing key of a secret that its
/// configuration lacks, whoever cached it and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SigningKeyId {
    key: KeyId,
    credential: CredentialFingerprint,
    /// Date and region, separated by a slash, which neither contains.
    scope: Box<str>,
}

impl SigningKeyId {
    /// The ID of a signing key.
    pub fn new(key: KeyId, credential: CredentialFingerprint, date: &str, region: &str) -> Self {
        let mut scope = String::with_capacity(date.len() + 1 + region.len());
        scope.push_str(date);
        scope.push('/');
        scope.push_str(region);
        Self { key, credential, scope: scope.into_boxed_str() }
    }

    /// The client key.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Fingerprint for `ActorMessage::message_fingerprint`.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The derived key for signatures of one client key, date and region. It is a secret: its memory is overwritten when it
/// is dropped (C5).
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// Wraps a derived key.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The key's bytes, only for verifying signatures.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.0.zeroize();
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

    /// C5
    #[test]
    fn keys_are_overwritten() {
        assert!(std::mem::needs_drop::<SigningKey>());
    }

    /// C4
    #[test]
    fn debug_shows_nothing_of_a_key() {
        assert_eq!(format!("{:?}", SigningKey::new([7; 32])), "SigningKey(redacted)");
    }
}
