//! Messages and shell of the session cache actor.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::SessionsConfig;

use crate::actor_shell::{Component, MessageHandler};
use crate::mailbox::ActorMessage;
use crate::sessions::id::SessionId;
use crate::sessions::identity::{ClientIdentity, SigningKey, SigningKeyId, TokenHash, VerifiedToken};
use crate::sessions::metrics::SessionsMetrics;
use crate::sessions::state::{Cache, CacheLookup};

/// Looks up the identity of a session.
pub(crate) struct GetSession {
    pub(crate) id: SessionId,
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
    metrics: SessionsMetrics,
}

impl Sessions {
    pub(crate) fn new(config: &SessionsConfig, metrics: SessionsMetrics) -> Self {
        let (capacity, ttl) = (config.capacity, config.ttl);
        Self {
            sessions: Cache::new(capacity, ttl),
            keys: Cache::new(capacity, ttl),
            tokens: Cache::new(capacity, ttl),
            metrics,
        }
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
}

impl MessageHandler<GetSession> for Sessions {
    type Decision = CacheLookup<ClientIdentity>;

    fn decide(&self, message: &GetSession, now: Instant) -> Self::Decision {
        self.sessions.get(&message.id, now)
    }

    fn apply(&mut self, message: GetSession, found: Self::Decision, _: Instant) -> Option<ClientIdentity> {
        if found == CacheLookup::Expired {
            self.sessions.remove(&message.id);
        }
        self.count_lookup(found)
    }
}

impl MessageHandler<InsertSession> for Sessions {
    type Decision = ();

    fn decide(&self, _: &InsertSession, _: Instant) {}

    fn apply(&mut self, message: InsertSession, (): (), now: Instant) {
        let evicted = self.sessions.insert(message.id, message.identity, now);
        self.count_evicted(evicted);
    }
}

impl MessageHandler<GetSigningKey> for Sessions {
    type Decision = CacheLookup<SigningKey>;

    fn decide(&self, message: &GetSigningKey, now: Instant) -> Self::Decision {
        self.keys.get(&message.id, now)
    }

    fn apply(&mut self, message: GetSigningKey, found: Self::Decision, _: Instant) -> Option<SigningKey> {
        if found == CacheLookup::Expired {
            self.keys.remove(&message.id);
        }
        self.count_lookup(found)
    }
}

impl MessageHandler<InsertSigningKey> for Sessions {
    type Decision = ();

    fn decide(&self, _: &InsertSigningKey, _: Instant) {}

    fn apply(&mut self, message: InsertSigningKey, (): (), now: Instant) {
        let evicted = self.keys.insert(message.id, message.key, now);
        self.count_evicted(evicted);
    }
}

impl MessageHandler<GetVerifiedToken> for Sessions {
    type Decision = CacheLookup<Arc<VerifiedToken>>;

    fn decide(&self, message: &GetVerifiedToken, now: Instant) -> Self::Decision {
        self.tokens.get(&message.token, now)
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
    type Decision = ();

    fn decide(&self, _: &InsertVerifiedToken, _: Instant) {}

    fn apply(&mut self, message: InsertVerifiedToken, (): (), now: Instant) {
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
