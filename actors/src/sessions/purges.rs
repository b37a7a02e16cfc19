//! Which configurations may use the entries of a key or of tokens.
//!
//! A reload that withdraws or changes a key purges its entries. A request of a replaced configuration may still verify
//! with the old key. It must not bring the old entries back, and must not get those of the changed key. So entries of a
//! purged key belong to the configuration that purged it and to later ones.

use crate::ids::IdMap;
use crate::sessions::identity::ClientIdentity;
use crate::types::{ConfigNumber, KeyId};

/// The first configuration that may use the entries of each purged key, and those of tokens.
#[derive(Debug, Default)]
pub(super) struct Purges {
    keys: IdMap<KeyId, ConfigNumber>,
    tokens: Option<ConfigNumber>,
}

impl Purges {
    /// Reserves the entries of keys, and if `all_tokens` those of all tokens, for configurations from `number` on.
    pub(super) fn purge(&mut self, keys: &[KeyId], all_tokens: bool, number: ConfigNumber) {
        for key in keys {
            let since = self.keys.get(*key).map_or(number, |since| number.max(*since));
            self.keys.insert(*key, since);
        }
        if all_tokens {
            self.tokens = self.tokens.max(Some(number));
        }
    }

    /// Whether requests of a configuration may use the entries of a key.
    pub(super) fn admits_key(&self, key: KeyId, number: ConfigNumber) -> bool {
        self.keys.get(key).is_none_or(|since| number >= *since)
    }

    /// Whether requests of a configuration may use the entries of tokens.
    pub(super) fn admits_tokens(&self, number: ConfigNumber) -> bool {
        self.tokens.is_none_or(|since| number >= since)
    }

    /// Whether requests of a configuration may use sessions of this identity.
    pub(super) fn admits(&self, identity: &ClientIdentity, number: ConfigNumber) -> bool {
        match identity {
            ClientIdentity::Anonymous => true,
            ClientIdentity::Key(key) => self.admits_key(*key, number),
            ClientIdentity::Token(_) => self.admits_tokens(number),
        }
    }

    /// Forgets the purges that bar no configuration from `oldest` on.
    pub(super) fn retire(&mut self, oldest: ConfigNumber) {
        let keys = self.keys.iter().filter(|(_, since)| **since > oldest);
        self.keys = keys.map(|(key, since)| (key, *since)).collect();
        self.tokens = self.tokens.filter(|since| *since > oldest);
    }

    /// Number of purged keys that are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}
