//! What the request path sees of the session cache.

use std::sync::Arc;

use crate::mailbox::{AskError, Mailbox, Supervised};
use crate::sessions::actor::{
    Inspect, Remember, RememberKey, RememberToken, Resolve, ResolveKey, ResolveToken, Sessions,
    SessionsReport,
};
use crate::sessions::id::SessionId;
use crate::sessions::identity::{Bearer, Identity, SigningKey, SigningKeyId, TokenHash};
use crate::vitals::Vitals;

/// Asks the session cache.
#[derive(Clone)]
pub struct SessionsHandle {
    mailbox: Mailbox<Sessions>,
}

impl SessionsHandle {
    pub(crate) fn new(mailbox: Mailbox<Sessions>) -> Self {
        Self { mailbox }
    }

    /// Whose session this is, if it is remembered. Without an answer it is not: the request is verified again (S4).
    pub async fn resolve(&self, id: &SessionId) -> Option<Identity> {
        self.mailbox.ask(Resolve { id: id.clone() }).await.ok().flatten()
    }

    /// Remembers a verified session. If that fails, the next request is verified again, and nothing else is lost.
    pub async fn remember(&self, id: &SessionId, identity: Identity) {
        let _ = self.mailbox.ask(Remember { id: id.clone(), identity }).await;
    }

    /// A signing key, if it is remembered. Without an answer it is not: it is derived again (S4).
    pub async fn signing_key(&self, id: &SigningKeyId) -> Option<SigningKey> {
        self.mailbox.ask(ResolveKey { id: id.clone() }).await.ok().flatten()
    }

    /// Remembers a derived signing key. If that fails, it is derived again, and nothing else is lost.
    pub async fn remember_signing_key(&self, id: &SigningKeyId, key: SigningKey) {
        let _ = self.mailbox.ask(RememberKey { id: id.clone(), key }).await;
    }

    /// What a token says, if it was verified and is remembered. Without an answer it is verified again (S4).
    pub async fn bearer(&self, token: TokenHash) -> Option<Arc<Bearer>> {
        self.mailbox.ask(ResolveToken { token }).await.ok().flatten()
    }

    /// Remembers a verified token. If that fails, it is verified again, and nothing else is lost.
    pub async fn remember_bearer(&self, token: TokenHash, bearer: Arc<Bearer>) {
        let _ = self.mailbox.ask(RememberToken { token, bearer }).await;
    }

    /// What the status page shows.
    ///
    /// # Errors
    /// The actor gave no answer.
    pub async fn inspect(&self) -> Result<SessionsReport, AskError> {
        self.mailbox.ask(Inspect).await
    }

    /// The actor's vital signs.
    pub fn vitals(&self) -> &Arc<Vitals> {
        self.mailbox.vitals()
    }

    /// The actor, whatever its kind.
    pub(crate) fn actor(&self) -> &dyn Supervised {
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
    use crate::chaos::{Crash, CrashPlace};
    use crate::host::Host;
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
        let (window, vitals) = (Duration::from_secs(10), Arc::new(Vitals::new("sessions", 16)));
        let host = Host::new(sessions, window, Arc::clone(&vitals), actors.clone(), log.clone());
        let (sender, receiver) = actix::dev::channel::channel(16);
        supervise(host, receiver, Intensity::new(restarts_max, window), Arc::clone(&vitals), log);
        SessionsHandle::new(Mailbox::new(Addr::new(sender), vitals, actors, Duration::from_secs(1)))
    }

    fn id(text: &str) -> SessionId {
        SessionId::parse(text).unwrap()
    }

    /// C1
    #[actix_rt::test]
    async fn hits_misses_and_evictions_are_reported() {
        let handle = start(5);
        for text in ["a", "b", "c", "d"] {
            handle.remember(&id(text), Identity::Anonymous).await;
        }
        assert_eq!(handle.resolve(&id("a")).await, None, "left for the fourth");
        assert_eq!(handle.resolve(&id("d")).await, Some(Identity::Anonymous));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(handle.resolve(&id("d")).await, None, "its time is up");
        let expected = SessionsReport { len: 2, capacity: 3, hits: 1, misses: 2, evicted: 1 };
        assert_eq!(handle.inspect().await, Ok(expected));
    }

    /// S5: a crash forgets nothing in decide, everything in apply
    #[actix_rt::test]
    async fn a_dirty_crash_empties_the_cache_and_a_clean_one_does_not() {
        let handle = start(5);
        handle.remember(&id("a"), Identity::Anonymous).await;
        handle.actor().crash(Crash { place: CrashPlace::Decide, next_message: false });
        assert_eq!(handle.resolve(&id("a")).await, Some(Identity::Anonymous));
        handle.actor().crash(Crash { place: CrashPlace::Apply, next_message: false });
        assert_eq!(handle.resolve(&id("a")).await, None);
        assert_eq!(handle.vitals().generation(), 3);
    }

    /// S4: a failed cache is a miss
    #[actix_rt::test]
    async fn while_failed_every_look_up_is_a_miss() {
        let handle = start(0);
        handle.remember(&id("a"), Identity::Anonymous).await;
        handle.actor().crash(Crash { place: CrashPlace::Decide, next_message: false });
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(matches!(handle.inspect().await, Err(AskError::Failed { .. })));
        assert_eq!(handle.resolve(&id("a")).await, None);
        handle.remember(&id("b"), Identity::Anonymous).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(handle.resolve(&id("a")).await, Some(Identity::Anonymous), "back again");
        assert_eq!(handle.resolve(&id("b")).await, None);
    }
}
