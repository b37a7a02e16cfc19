//! Messages and shell of the session cache actor.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use tidegate_config::SessionsConfig;

use crate::actor_shell::{Component, MessageHandler};
use crate::change_queue::ChangeQueue;
use crate::mailbox::ActorMessage;
use crate::sessions::id::SessionId;
use crate::sessions::identity::{ClientIdentity, SigningKey, SigningKeyId, TokenHash, VerifiedToken};
use crate::sessions::metrics::SessionsMetrics;
use crate::sessions::purges::Purges;
use crate::sessions::reconfigure::SessionsChange;
use crate::sessions::state::{Cache, CacheLookup};
use crate::types::{ConfigNumber, KeyId};

/// Looks up the identity of a session.
pub(crate) struct GetSession {
    pub(crate) id: SessionId,
    /// The configuration of the request.
    pub(crate) number: ConfigNumber,
}

impl ActorMessage for GetSession {
    type Reply = Option<ClientIdentity>;
    const NAME: &'static str = "sessions.resolve";

    fn message_fingerprint(&self) -> u64 {
        self.id.fingerprint()
    }
}

/// Stores the identity of a verified session.
pub(crate) struct InsertSession {
    pub(crate) id: SessionId,
    pub(crate) identity: ClientIdentity,
    /// The configuration of the request.
    pub(crate) number: ConfigNumber,
}

impl ActorMessage for InsertSession {
    type Reply = ();
    const NAME: &'static str = "sessions.remember";

    fn message_fingerprint(&self) -> u64 {
        self.id.fingerprint()
    }
}

/// Looks up a signing key.
pub(crate) struct GetSigningKey {
    pub(crate) id: SigningKeyId,
    /// The configuration of the request.
    pub(crate) number: ConfigNumber,
}

impl ActorMessage for GetSigningKey {
    type Reply = Option<SigningKey>;
    const NAME: &'static str = "sessions.resolve_key";

    fn message_fingerprint(&self) -> u64 {
        self.id.fingerprint()
    }
}

/// Stores a derived signing key.
pub(crate) struct InsertSigningKey {
    pub(crate) id: SigningKeyId,
    pub(crate) key: SigningKey,
    /// The configuration of the request.
    pub(crate) number: ConfigNumber,
}

impl ActorMessage for InsertSigningKey {
    type Reply = ();
    const NAME: &'static str = "sessions.remember_key";

    fn message_fingerprint(&self) -> u64 {
        self.id.fingerprint()
    }
}

/// Looks up a verified token.
pub(crate) struct GetVerifiedToken {
    pub(crate) token: TokenHash,
    /// The configuration of the request.
    pub(crate) number: ConfigNumber,
}

impl ActorMessage for GetVerifiedToken {
    type Reply = Option<Arc<VerifiedToken>>;
    const NAME: &'static str = "sessions.resolve_token";

    fn message_fingerprint(&self) -> u64 {
        self.token.fingerprint()
    }
}

/// Stores a verified token.
pub(crate) struct InsertVerifiedToken {
    pub(crate) token: TokenHash,
    pub(crate) verified: Arc<VerifiedToken>,
    /// The configuration of the request.
    pub(crate) number: ConfigNumber,
}

impl ActorMessage for InsertVerifiedToken {
    type Reply = ();
    const NAME: &'static str = "sessions.remember_token";

    fn message_fingerprint(&self) -> u64 {
        self.token.fingerprint()
    }
}

/// The session cache's part of the status document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionsReport {
    /// Entries: sessions, signing keys and tokens.
    pub len: usize,
    /// Maximum number of entries of each of the three caches.
    pub capacity: usize,
    /// Lookups that found an entry.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Entries that were evicted at capacity.
    pub evicted: u64,
}

/// Asks for the report.
pub(crate) struct Inspect;

impl ActorMessage for Inspect {
    type Reply = SessionsReport;
    const NAME: &'static str = "sessions.inspect";

    fn message_fingerprint(&self) -> u64 {
        0
    }
}

/// The component.
pub(crate) struct Sessions {
    sessions: Cache<SessionId, ClientIdentity>,
    keys: Cache<SigningKeyId, SigningKey>,
    tokens: Cache<TokenHash, Arc<VerifiedToken>>,
    purges: Purges,
    metrics: SessionsMetrics,
    changes: Arc<ChangeQueue<SessionsChange>>,
}

impl Sessions {
    pub(crate) fn new(config: &SessionsConfig, metrics: SessionsMetrics) -> Self {
        let (capacity, ttl) = (config.capacity, config.ttl);
        Self {
            sessions: Cache::new(capacity, ttl),
            keys: Cache::new(capacity, ttl),
            tokens: Cache::new(capacity, ttl),
            purges: Purges::default(),
            metrics,
            changes: Arc::default(),
        }
    }

    /// What was purged.
    #[cfg(test)]
    pub(super) fn purges(&self) -> &Purges {
        &self.purges
    }

    /// The changes that wait for this component.
    pub(super) fn changes(&self) -> &Arc<ChangeQueue<SessionsChange>> {
        &self.changes
    }

    /// Applies the changes that wait.
    pub(super) fn apply_changes(&mut self) {
        let changes = Arc::clone(&self.changes);
        changes.apply_all(|change| match change {
            SessionsChange::Reconfigure { capacity, ttl } => {
                let evicted = self.sessions.reconfigure(*capacity, *ttl)
                    + self.keys.reconfigure(*capacity, *ttl)
                    + self.tokens.reconfigure(*capacity, *ttl);
                self.count_evicted(evicted);
            }
            SessionsChange::Purge { keys, all_tokens, number } => {
                self.purge(keys, *all_tokens, *number);
            }
            SessionsChange::Retire { oldest } => self.purges.retire(*oldest),
        });
    }

    fn purge(&mut self, keys: &[KeyId], all_tokens: bool, number: ConfigNumber) {
        self.purges.purge(keys, all_tokens, number);
        let purged: HashSet<KeyId, ahash::RandomState> = keys.iter().copied().collect();
        self.sessions.retain(|_, identity| match identity {
            ClientIdentity::Anonymous => true,
            ClientIdentity::Key(key) => !purged.contains(key),
            ClientIdentity::Token(_) => !all_tokens,
        });
        self.keys.retain(|id, _| !purged.contains(&id.key()));
        if all_tokens {
            self.tokens.clear();
        }
        self.metrics.set_entries(self.len());
    }

    /// Counts a lookup.
    fn count_lookup<V>(&self, found: CacheLookup<V>) -> Option<V> {
        if let CacheLookup::Hit(value) = found {
            self.metrics.hits.inc();
            return Some(value);
        }
        self.metrics.misses.inc();
        self.metrics.set_entries(self.len());
        None
    }

    fn count_evicted(&self, evicted: usize) {
        self.metrics.evicted.inc_by(evicted as u64);
        self.metrics.set_entries(self.len());
    }

    fn len(&self) -> usize {
        self.sessions.len() + self.keys.len() + self.tokens.len()
    }
}

impl Component for Sessions {
    fn rebuild(&mut self, _: Instant) {
        self.sessions.clear();
        self.keys.clear();
        self.tokens.clear();
        self.metrics.set_entries(0);
    }

    fn restarted(&mut self, _: Instant) {
        self.apply_changes();
    }
}

impl MessageHandler<GetSession> for Sessions {
    type Decision = CacheLookup<ClientIdentity>;

    fn decide(&self, message: &GetSession, now: Instant) -> Self::Decision {
        match self.sessions.get(&message.id, now) {
            CacheLookup::Hit(identity) if !self.purges.admits(&identity, message.number) => CacheLookup::Miss,
            found => found,
        }
    }

    fn apply(&mut self, message: GetSession, found: Self::Decision, _: Instant) -> Option<ClientIdentity> {
        if found == CacheLookup::Expired {
            self.sessions.remove(&message.id);
        }
        self.count_lookup(found)
    }
}

impl MessageHandler<InsertSession> for Sessions {
    /// Whether the entry may be inserted.
    type Decision = bool;

    fn decide(&self, message: &InsertSession, _: Instant) -> bool {
        self.purges.admits(&message.identity, message.number)
    }

    fn apply(&mut self, message: InsertSession, is_admitted: bool, now: Instant) {
        if !is_admitted {
            return;
        }
        let evicted = self.sessions.insert(message.id, message.identity, now);
        self.count_evicted(evicted);
    }
}

impl MessageHandler<GetSigningKey> for Sessions {
    type Decision = CacheLookup<SigningKey>;

    fn decide(&self, message: &GetSigningKey, now: Instant) -> Self::Decision {
        match self.purges.admits_key(message.id.key(), message.number) {
            true => self.keys.get(&message.id, now),
            false => CacheLookup::Miss,
        }
    }

    fn apply(&mut self, message: GetSigningKey, found: Self::Decision, _: Instant) -> Option<SigningKey> {
        if found == CacheLookup::Expired {
            self.keys.remove(&message.id);
        }
        self.count_lookup(found)
    }
}

impl MessageHandler<InsertSigningKey> for Sessions {
    /// Whether the entry may be inserted.
    type Decision = bool;

    fn decide(&self, message: &InsertSigningKey, _: Instant) -> bool {
        self.purges.admits_key(message.id.key(), message.number)
    }

    fn apply(&mut self, message: InsertSigningKey, is_admitted: bool, now: Instant) {
        if !is_admitted {
            return;
        }
        let evicted = self.keys.insert(message.id, message.key, now);
        self.count_evicted(evicted);
    }
}

impl MessageHandler<GetVerifiedToken> for Sessions {
    type Decision = CacheLookup<Arc<VerifiedToken>>;

    fn decide(&self, message: &GetVerifiedToken, now: Instant) -> Self::Decision {
        match self.purges.admits_tokens(message.number) {
            true => self.tokens.get(&message.token, now),
            false => CacheLookup::Miss,
        }
    }

    fn apply(
        &mut self,
        message: GetVerifiedToken,
        found: Self::Decision,
        _: Instant,
    ) -> Option<Arc<VerifiedToken>> {
        if found == CacheLookup::Expired {
            self.tokens.remove(&message.token);
        }
        self.count_lookup(found)
    }
}

impl MessageHandler<InsertVerifiedToken> for Sessions {
    /// Whether the entry may be inserted.
    type Decision = bool;

    fn decide(&self, message: &InsertVerifiedToken, _: Instant) -> bool {
        self.purges.admits_tokens(message.number)
    }

    fn apply(&mut self, message: InsertVerifiedToken, is_admitted: bool, now: Instant) {
        if !is_admitted {
            return;
        }
        let evicted = self.tokens.insert(message.token, message.verified, now);
        self.count_evicted(evicted);
    }
}

impl MessageHandler<Inspect> for Sessions {
    type Decision = SessionsReport;

    fn decide(&self, _: &Inspect, _: Instant) -> SessionsReport {
        SessionsReport {
            len: self.len(),
            capacity: self.sessions.capacity(),
            hits: self.metrics.hits.get(),
            misses: self.metrics.misses.get(),
            evicted: self.metrics.evicted.get(),
        }
    }

    fn apply(&mut self, _: Inspect, report: SessionsReport, _: Instant) -> SessionsReport {
        report
    }
}
