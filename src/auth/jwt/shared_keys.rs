//! The keys that hold at this moment, for all worker threads.
//!
//! They are read, never asked for: one task fetches them (`renewal`) and publishes what it found. A token that names a key which
//! is not among them may be of a new one, so the task is woken for it, at most twice a minute, and requests wait for that one
//! round together. A stranger's invented names thus cost the issuer next to nothing and know no key into being.
//!
//! ```text
//! first round under way ──▶ held ◀── a round succeeds: these keys, and no others any more
//!                │            └── a round fails: the same keys go on holding
//!                └── fails ──▶ missing: tokens are refused with 503 until a round succeeds
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::JwtAlgorithm;
use tokio::sync::watch;
use tokio::time::timeout;

use super::key::KeySet;

/// How long a request waits for a round: a little longer than a round may take.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(6);
/// Requests that may wait at a time: a source that hangs must not hold all that the process can serve.
const WAITERS_MAX: usize = 256;
/// How often a name that nobody knows may cause a round.
const UNKNOWN_KEY_REFRESH_INTERVAL: Duration = Duration::from_secs(30);

struct RefreshState {
    keys: Arc<KeySet>,
    /// A round has succeeded, or there is nothing to fetch.
    is_loaded: bool,
    /// Rounds that have ended.
    finished_refreshes: u64,
    /// A round is under way, or wanted.
    is_refreshing: bool,
    requested: Option<Instant>,
}

impl RefreshState {
    /// Wants a round for a name that nobody knows; says which one to wait for, if any.
    fn request_refresh(&mut self, now: Instant) -> Option<u64> {
        let may =
            self.requested.is_none_or(|at| now.saturating_duration_since(at) >= UNKNOWN_KEY_REFRESH_INTERVAL);
        if !self.is_refreshing && may {
            self.requested = Some(now);
            self.is_refreshing = true;
        }
        self.is_refreshing.then_some(self.finished_refreshes)
    }
}

/// The keys.
#[derive(Clone)]
pub(super) struct SharedKeySet {
    state: watch::Sender<RefreshState>,
    has_source: bool,
    /// Those of the configuration, which no round takes away.
    configured: Arc<KeySet>,
    accepted_algorithms: Arc<[JwtAlgorithm]>,
}

impl SharedKeySet {
    pub(super) fn new(own: KeySet, accepted: Vec<JwtAlgorithm>, has_source: bool) -> Self {
        let configured = Arc::new(own);
        let state = watch::Sender::new(RefreshState {
            keys: Arc::clone(&configured),
            is_loaded: !has_source,
            finished_refreshes: 0,
            is_refreshing: has_source,
            requested: None,
        });
        Self { state, has_source, configured, accepted_algorithms: accepted.into() }
    }

    pub(super) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.borrow().keys)
    }

    /// Whether keys are to be fetched and none ever were.
    pub(super) fn is_unavailable(&self) -> bool {
        !self.state.borrow().is_loaded
    }

    /// Waits for the round that may know more than these keys; whether there was one. The first is waited for in any case, a
    /// later one only for the sake of a name that nobody knows. One that ended since these keys were looked at is waited for no
    /// more: another thread may publish it between the look and this question.
    pub(super) async fn wait_for_refresh(&self, seen: &Arc<KeySet>, may_be_new: bool, now: Instant) -> bool {
        let (mut round, mut has_ended) = (None, false);
        if !self.has_source || self.state.receiver_count() >= WAITERS_MAX {
            return false;
        }
        self.state.send_if_modified(|state| {
            let was_under_way = state.is_refreshing;
            has_ended = !Arc::ptr_eq(seen, &state.keys);
            round = match state.finished_refreshes {
                _ if has_ended => None,
                0 if was_under_way => Some(0),
                _ if may_be_new => state.request_refresh(now),
                _ => None,
            };
            state.is_refreshing != was_under_way
        });
        let Some(round) = round else { return has_ended };
        let mut news = self.state.subscribe();
        timeout(REFRESH_WAIT_MAX, news.wait_for(|state| state.finished_refreshes > round)).await.is_ok()
    }

    /// Waits until somebody wants a round.
    pub(super) async fn refresh_requested(&self) {
        // The sender is held here, so there is always news to come.
        let _ = self.state.subscribe().wait_for(|state| state.is_refreshing).await;
    }

    pub(super) fn begin_refresh(&self) {
        self.state.send_modify(|state| state.is_refreshing = true);
    }

    /// Ends a round: these keys hold from now on, or those from before.
    pub(super) fn finish_refresh(&self, fetched: Option<KeySet>) {
        let keys = fetched.map(|fetched| {
            let accepted =
                fetched.into_iter().filter(|key| self.accepted_algorithms.contains(&key.algorithm()));
            Arc::new(self.configured.iter().cloned().chain(accepted).collect())
        });
        self.state.send_modify(|state| {
            if let Some(keys) = keys {
                state.keys = keys;
                state.is_loaded = true;
            }
            state.finished_refreshes += 1;
            state.is_refreshing = false;
        });
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::super::key::VerificationKey;
    use super::*;

    fn keys(has_source: bool) -> SharedKeySet {
        let own = vec![VerificationKey::from_secret(b"0123456789abcdef0123456789abcdef")];
        SharedKeySet::new(own, vec![JwtAlgorithm::Hs256], has_source)
    }

    /// A3: without a source there is nothing to wait for
    #[tokio::test(start_paused = true)]
    async fn keys_of_the_configuration_are_all_there_is() {
        let keys = keys(false);
        assert!(!keys.is_unavailable());
        assert_eq!(keys.current().len(), 1);
        assert!(!keys.wait_for_refresh(&keys.current(), true, clock::now()).await);
    }

    /// A3: names that nobody knows cause one round together, and no other for half a minute
    #[tokio::test(start_paused = true)]
    async fn invented_names_cause_one_round() {
        let keys = keys(true);
        assert!(keys.is_unavailable());
        keys.finish_refresh(Some(Vec::new()));
        assert!(!keys.is_unavailable());
        let asking = |keys: &SharedKeySet| {
            let keys = keys.clone();
            let seen = keys.current();
            tokio::spawn(async move { keys.wait_for_refresh(&seen, true, clock::now()).await })
        };
        let (first, second) = (asking(&keys), asking(&keys));
        keys.refresh_requested().await;
        keys.finish_refresh(None);
        assert!(first.await.unwrap() && second.await.unwrap());
        assert!(!keys.wait_for_refresh(&keys.current(), true, clock::now()).await, "too soon");
        assert!(!keys.wait_for_refresh(&keys.current(), false, clock::now()).await, "a name that is known");
        assert!(
            timeout(UNKNOWN_KEY_REFRESH_INTERVAL - Duration::from_secs(1), keys.refresh_requested())
                .await
                .is_err()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        let third = asking(&keys);
        keys.refresh_requested().await;
        keys.finish_refresh(None);
        assert!(third.await.unwrap());
    }

    /// A3: a round that fails leaves the keys; one that succeeds leaves no key that it did not bring, but the configuration's
    #[test]
    fn a_round_replaces_the_set_or_leaves_it() {
        let keys = keys(true);
        keys.finish_refresh(None);
        assert!(keys.is_unavailable());
        let other = VerificationKey::from_secret(b"another secret of 32 characters..");
        keys.begin_refresh();
        keys.finish_refresh(Some(vec![other]));
        assert_eq!((keys.current().len(), keys.is_unavailable()), (2, false));
        keys.finish_refresh(None);
        assert_eq!(keys.current().len(), 2);
        keys.finish_refresh(Some(Vec::new()));
        assert_eq!(keys.current().len(), 1);
    }

    /// A3: who looked at the keys just before a round brought others hears of them, however soon that is after the last round
    #[tokio::test(start_paused = true)]
    async fn a_round_that_ended_since_the_look_is_news() {
        let keys = keys(true);
        let before = keys.current();
        keys.finish_refresh(Some(vec![VerificationKey::from_secret(b"another secret of 32 characters..")]));
        assert!(keys.wait_for_refresh(&before, true, clock::now()).await);
        let seen = keys.current();
        keys.state.send_modify(|state| state.requested = Some(clock::now()));
        assert!(!keys.wait_for_refresh(&seen, true, clock::now()).await, "nothing since");
    }

    /// A3: a first round that never ends is waited for with patience, not for ever
    #[tokio::test(start_paused = true)]
    async fn the_first_round_is_waited_for() {
        let keys = keys(true);
        let began = tokio::time::Instant::now();
        assert!(!keys.wait_for_refresh(&keys.current(), false, clock::now()).await);
        assert_eq!(tokio::time::Instant::now() - began, REFRESH_WAIT_MAX);
    }
}
