//! The session cache's messages and its shell.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::SessionsConfig;

use crate::host::{Component, Serve};
use crate::mailbox::Request;
use crate::sessions::id::SessionId;
use crate::sessions::identity::{Bearer, Identity, SigningKey, SigningKeyId, TokenHash};
use crate::sessions::metrics::SessionsMetrics;
use crate::sessions::state::{Cache, Found};

/// Whose session is this?
pub(crate) struct Resolve {
    pub(crate) id: SessionId,
}

impl Request for Resolve {
    type Reply = Option<Identity>;
    const NAME: &'static str = "sessions.resolve";

    fn likeness(&self) -> u64 {
        self.id.likeness()
    }
}

/// This session was verified.
pub(crate) struct Remember {
    pub(crate) id: SessionId,
    pub(crate) identity: Identity,
}

impl Request for Remember {
    type Reply = ();
    const NAME: &'static str = "sessions.remember";

    fn likeness(&self) -> u64 {
        self.id.likeness()
    }
}

/// Which signing key is this?
pub(crate) struct ResolveKey {
    pub(crate) id: SigningKeyId,
}

impl Request for ResolveKey {
    type Reply = Option<SigningKey>;
    const NAME: &'static str = "sessions.resolve_key";

    fn likeness(&self) -> u64 {
        self.id.likeness()
    }
}

/// This signing key was derived.
pub(crate) struct RememberKey {
    pub(crate) id: SigningKeyId,
    pub(crate) key: SigningKey,
}

impl Request for RememberKey {
    type Reply = ();
    const NAME: &'static str = "sessions.remember_key";

    fn likeness(&self) -> u64 {
        self.id.likeness()
    }
}

/// What does this token say?
pub(crate) struct ResolveToken {
    pub(crate) token: TokenHash,
}

impl Request for ResolveToken {
    type Reply = Option<Arc<Bearer>>;
    const NAME: &'static str = "sessions.resolve_token";

    fn likeness(&self) -> u64 {
        self.token.likeness()
    }
}

/// This token was verified.
pub(crate) struct RememberToken {
    pub(crate) token: TokenHash,
    pub(crate) bearer: Arc<Bearer>,
}

impl Request for RememberToken {
    type Reply = ();
    const NAME: &'static str = "sessions.remember_token";

    fn likeness(&self) -> u64 {
        self.token.likeness()
    }
}

/// What the status page shows of the session cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionsReport {
    /// Sessions, signing keys and tokens remembered.
    pub len: usize,
    /// The bound on each of the three.
    pub capacity: usize,
    /// Look-ups that found a session.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Sessions that left to make room.
    pub evicted: u64,
}

/// Asks for a report.
pub(crate) struct Inspect;

impl Request for Inspect {
    type Reply = SessionsReport;
    const NAME: &'static str = "sessions.inspect";

    fn likeness(&self) -> u64 {
        0
    }
}

/// The component.
pub(crate) struct Sessions {
    sessions: Cache<SessionId, Identity>,
    keys: Cache<SigningKeyId, SigningKey>,
    tokens: Cache<TokenHash, Arc<Bearer>>,
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

    /// Counts a look-up.
    fn found<V>(&self, found: Found<V>) -> Option<V> {
        if let Found::Hit(value) = found {
            self.metrics.hits.inc();
            return Some(value);
        }
        self.metrics.misses.inc();
        self.metrics.holds(self.len());
        None
    }

    fn made_room(&self, evicted: usize) {
        self.metrics.evicted.inc_by(evicted as u64);
        self.metrics.holds(self.len());
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
        self.metrics.holds(0);
    }
}

impl Serve<Resolve> for Sessions {
    type Decision = Found<Identity>;

    fn decide(&self, message: &Resolve, now: Instant) -> Self::Decision {
        self.sessions.find(&message.id, now)
    }

    fn apply(&mut self, message: Resolve, found: Self::Decision, _: Instant) -> Option<Identity> {
        if found == Found::Expired {
            self.sessions.forget(&message.id);
        }
        self.found(found)
    }
}

impl Serve<Remember> for Sessions {
    type Decision = ();

    fn decide(&self, _: &Remember, _: Instant) {}

    fn apply(&mut self, message: Remember, (): (), now: Instant) {
        let evicted = self.sessions.remember(message.id, message.identity, now);
        self.made_room(evicted);
    }
}

impl Serve<ResolveKey> for Sessions {
    type Decision = Found<SigningKey>;

    fn decide(&self, message: &ResolveKey, now: Instant) -> Self::Decision {
        self.keys.find(&message.id, now)
    }

    fn apply(&mut self, message: ResolveKey, found: Self::Decision, _: Instant) -> Option<SigningKey> {
        if found == Found::Expired {
            self.keys.forget(&message.id);
        }
        self.found(found)
    }
}

impl Serve<RememberKey> for Sessions {
    type Decision = ();

    fn decide(&self, _: &RememberKey, _: Instant) {}

    fn apply(&mut self, message: RememberKey, (): (), now: Instant) {
        let evicted = self.keys.remember(message.id, message.key, now);
        self.made_room(evicted);
    }
}

impl Serve<ResolveToken> for Sessions {
    type Decision = Found<Arc<Bearer>>;

    fn decide(&self, message: &ResolveToken, now: Instant) -> Self::Decision {
        self.tokens.find(&message.token, now)
    }

    fn apply(&mut self, message: ResolveToken, found: Self::Decision, _: Instant) -> Option<Arc<Bearer>> {
        if found == Found::Expired {
            self.tokens.forget(&message.token);
        }
        self.found(found)
    }
}

impl Serve<RememberToken> for Sessions {
    type Decision = ();

    fn decide(&self, _: &RememberToken, _: Instant) {}

    fn apply(&mut self, message: RememberToken, (): (), now: Instant) {
        let evicted = self.tokens.remember(message.token, message.bearer, now);
        self.made_room(evicted);
    }
}

impl Serve<Inspect> for Sessions {
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
