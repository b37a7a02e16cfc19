//! The session cache's API for the request path.

use std::sync::Arc;

use tidegate_config::SessionsConfig;

use crate::change_queue::ChangeQueue;
use crate::mailbox::{AskError, Mailbox, SupervisedActor};
use crate::sessions::actor::{
    GetSession, GetSigningKey, GetVerifiedToken, InsertSession, InsertSigningKey, InsertVerifiedToken,
    Inspect, Sessions, SessionsReport,
};
use crate::sessions::id::SessionId;
use crate::sessions::identity::{ClientIdentity, SigningKey, SigningKeyId, TokenHash, VerifiedToken};
use crate::sessions::reconfigure::{SessionsChange, SessionsChanges, SessionsReconfigure};
use crate::types::{ConfigNumber, KeyId};

/// The handle of the session cache for the requests of one configuration.
#[derive(Clone)]
pub struct SessionsHandle {
    mailbox: Mailbox<Sessions>,
    changes: Arc<ChangeQueue<SessionsChange>>,
    number: ConfigNumber,
}

impl SessionsHandle {
    /// The handle of the first configuration.
    pub(crate) fn new(mailbox: Mailbox<Sessions>, sessions: &Sessions) -> Self {
        Self { mailbox, changes: Arc::clone(sessions.changes()), number: ConfigNumber::FIRST }
    }

    /// The handle of the configuration with this number, and the change for the actor, which has no effect until its
    /// `commit`. Both handles work on.
    pub fn reconfigured(&self, config: &SessionsConfig, number: ConfigNumber) -> (Self, SessionsReconfigure) {
        (Self { number, ..self.clone() }, SessionsReconfigure::new(self.changes(), config))
    }

    /// Removes the sessions and signing keys of these keys, and if `all_tokens` all tokens with their sessions: the
    /// configuration of this handle has withdrawn or changed them. Configurations before it neither insert nor find such
    /// entries afterwards. Sent before the first request of this configuration, it keeps every request from an entry of
    /// another configuration.
    pub fn purge(&self, keys: Vec<KeyId>, all_tokens: bool) {
        self.changes().send(SessionsChange::Purge { keys, all_tokens, number: self.number });
    }

    /// Forgets the purges that no configuration from `oldest` on needs: all earlier ones are retired.
    pub fn retire_before(&self, oldest: ConfigNumber) {
        self.changes().send(SessionsChange::Retire { oldest });
    }

    fn changes(&self) -> SessionsChanges {
        SessionsChanges { mailbox: self.mailbox.clone(), queue: Arc::clone(&self.changes) }
    }

    /// The identity of a session; none if it is not cached or the actor gave no reply. The request is then verified
    /// again (S4).
    pub async fn session(&self, id: &SessionId) -> Option<ClientIdentity> {
        self.mailbox.ask(GetSession { id: id.clone(), number: self.number }).await.ok().flatten()
    }

    /// Stores a verified session. If that fails, the next request is verified again.
    pub async fn insert_session(&self, id: &SessionId, identity: ClientIdentity) {
        let _ = self.mailbox.ask(InsertSession { id: id.clone(), identity, number: self.number }).await;
    }

    /// A signing key; none if it is not cached or the actor gave no reply. It is then derived again (S4).
    pub async fn signing_key(&self, id: &SigningKeyId) -> Option<SigningKey> {
        self.mailbox.ask(GetSigningKey { id: id.clone(), number: self.number }).await.ok().flatten()
    }

    /// Stores a derived signing key. If that fails, it is derived again.
    pub async fn insert_signing_key(&self, id: &SigningKeyId, key: SigningKey) {
        let _ = self.mailbox.ask(InsertSigningKey { id: id.clone(), key, number: self.number }).await;
    }

    /// A verified token; none if it is not cached or the actor gave no reply. It is then verified again (S4).
    pub async fn verified_token(&self, token: TokenHash) -> Option<Arc<VerifiedToken>> {
        self.mailbox.ask(GetVerifiedToken { token, number: self.number }).await.ok().flatten()
    }

    /// Stores a verified token. If that fails, it is verified again.
    pub async fn insert_verified_token(&self, token: TokenHash, verified: Arc<VerifiedToken>) {
        let _ = self.mailbox.ask(InsertVerifiedToken { token, verified, number: self.number }).await;
    }

    /// The session cache's part of the status document.
    ///
    /// # Errors
    /// The actor gave no reply.
    pub async fn inspect(&self) -> Result<SessionsReport, AskError> {
        self.mailbox.ask(Inspect).await
    }

    /// The supervised actor, for statistics and chaos.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.mailbox
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use actix::Addr;
    use prometheus::Registry;
    use tidegate_config::SessionsConfig;

    use super::*;
    use crate::actor_shell::ActorShell;
    use crate::actor_stats::ActorStats;
    use crate::chaos::{Crash, CrashPoint};
    use crate::intensity::Intensity;
    use crate::metrics::ActorFamilies;
    use crate::sessions::SessionsMetrics;
    use crate::supervisor::supervise;

    fn start(restarts_max: usize) -> SessionsHandle {
        tokio::time::pause();
        let (log, registry) = (slog::Logger::root(slog::Discard, slog::o!()), Registry::new());
        let actors = ActorFamilies::register(&registry).unwrap().actor("sessions");
        let config = SessionsConfig { capacity: NonZeroUsize::new(3).unwrap(), ttl: Duration::from_secs(60) };
        let sessions = Sessions::new(&config, SessionsMetrics::register(&registry).unwrap());
        let (window, stats) = (Duration::from_secs(10), Arc::new(ActorStats::new("sessions", 16)));
        let (sender, receiver) = actix::dev::channel::channel(16);
        let (actor, timeout) = (Arc::clone(&stats), Duration::from_secs(1));
        let mailbox = Mailbox::new(Addr::new(sender), actor, actors.clone(), timeout);
        let handle = SessionsHandle::new(mailbox, &sessions);
        let shell = ActorShell::new(sessions, window, Arc::clone(&stats), actors, log.clone());
        supervise(shell, receiver, Intensity::new(restarts_max, window), stats, log);
        handle
    }

    fn id(text: &str) -> SessionId {
        SessionId::parse(text).unwrap()
    }

    /// C1
    #[actix_rt::test]
    async fn hits_misses_and_evictions_are_reported() {
        let handle = start(5);
        for text in ["a", "b", "c", "d"] {
            handle.insert_session(&id(text), ClientIdentity::Anonymous).await;
        }
        assert_eq!(handle.session(&id("a")).await, None, "evicted for the fourth");
        assert_eq!(handle.session(&id("d")).await, Some(ClientIdentity::Anonymous));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(handle.session(&id("d")).await, None, "the TTL has elapsed");
        let expected = SessionsReport { len: 2, capacity: 3, hits: 1, misses: 2, evicted: 1 };
        assert_eq!(handle.inspect().await, Ok(expected));
    }

    /// S5: a crash in `decide` keeps the cache, one in `apply` empties it
    #[actix_rt::test]
    async fn a_dirty_crash_empties_the_cache_and_a_clean_one_does_not() {
        let handle = start(5);
        handle.insert_session(&id("a"), ClientIdentity::Anonymous).await;
        handle.actor().crash(Crash { point: CrashPoint::Decide, next_message: false });
        assert_eq!(handle.session(&id("a")).await, Some(ClientIdentity::Anonymous));
        handle.actor().crash(Crash { point: CrashPoint::Apply, next_message: false });
        assert_eq!(handle.session(&id("a")).await, None);
        assert_eq!(handle.actor().actor_stats().generation(), 3);
    }

    /// S4: while the cache has failed, every lookup is a miss
    #[actix_rt::test]
    async fn while_failed_every_lookup_is_a_miss() {
        let handle = start(0);
        handle.insert_session(&id("a"), ClientIdentity::Anonymous).await;
        handle.actor().crash(Crash { point: CrashPoint::Decide, next_message: false });
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(matches!(handle.inspect().await, Err(AskError::Failed { .. })));
        assert_eq!(handle.session(&id("a")).await, None);
        handle.insert_session(&id("b"), ClientIdentity::Anonymous).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(handle.session(&id("a")).await, Some(ClientIdentity::Anonymous), "the entry was kept");
        assert_eq!(handle.session(&id("b")).await, None);
    }

    /// G3, S5: a change is applied after a crash over its message, before the next message
    #[actix_rt::test]
    async fn a_crash_loses_no_change() {
        let mut old = start(20);
        let (key, id) = (KeyId::new(7), id("a"));
        let points = [CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Applied];
        for (point, capacity) in points.into_iter().zip(4..) {
            old.insert_session(&id, ClientIdentity::Key(key)).await;
            assert_eq!(old.session(&id).await, Some(ClientIdentity::Key(key)));
            let config = SessionsConfig {
                capacity: NonZeroUsize::new(capacity).unwrap(),
                ttl: Duration::from_secs(1),
            };
            let (new, change) = old.reconfigured(&config, old.number.next());
            old.actor().crash(Crash { point, next_message: true });
            new.purge(vec![key], false);
            old.insert_session(&id, ClientIdentity::Key(key)).await;
            assert_eq!((old.session(&id).await, new.session(&id).await), (None, None), "{point:?}");
            new.insert_session(&id, ClientIdentity::Key(key)).await;
            assert_eq!(new.session(&id).await, Some(ClientIdentity::Key(key)));
            assert_eq!(old.inspect().await.unwrap().capacity, capacity - 1, "nothing is committed");
            old.actor().crash(Crash { point, next_message: true });
            change.commit();
            assert_eq!(old.inspect().await.unwrap().capacity, capacity, "{point:?}");
            new.insert_session(&id, ClientIdentity::Key(key)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(new.session(&id).await, None, "the new TTL has elapsed");
            new.retire_before(new.number);
            old = new;
        }
        assert_eq!(old.actor().actor_stats().generation(), 7, "six crashes");
    }
}
