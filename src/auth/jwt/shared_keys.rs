//! The current keys, shared by all worker threads.
//!
//! Requests read the published keys and never fetch. One task fetches and publishes them (`gateway/jwks_fetcher.rs`). A token that names an
//! unknown key may be signed with a new one, so it wakes the task, at most twice a minute, and all such requests wait for the same refresh.
//! Tokens with invented key names therefore cause almost no load on the issuer.
//!
//! ```text
//! first refresh running ──▶ loaded ◀── a refresh succeeds: the new keys replace the fetched ones
//!                │             └── a refresh fails: the keys stay
//!                └── fails ──▶ unavailable: tokens are rejected with 503 until a refresh succeeds
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::JwtAlgorithm;
use tokio::sync::watch;
use tokio::time::timeout;

use super::key::KeySet;

/// How long a request waits for a refresh: a little longer than the timeout of a fetch.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(6);
/// Requests that may wait at the same time, so that a source that hangs cannot block all requests of the process.
const WAITERS_MAX: usize = 256;
/// The minimum time between refreshes for unknown key names.
const UNKNOWN_KEY_REFRESH_INTERVAL: Duration = Duration::from_secs(30);

struct RefreshState {
    keys: Arc<KeySet>,
    /// A refresh has succeeded, or there is no source.
    is_loaded: bool,
    /// The number of refreshes that have ended.
    finished_refreshes: u64,
    /// A refresh is running or requested.
    is_refreshing: bool,
    /// When an unknown key name last requested a refresh.
    requested: Option<Instant>,
}

impl RefreshState {
    /// Requests a refresh for an unknown key name. Returns the number of the refresh to wait for, if there is one.
    fn request_refresh(&mut self, now: Instant) -> Option<u64> {
        let is_allowed =
            self.requested.is_none_or(|at| now.saturating_duration_since(at) >= UNKNOWN_KEY_REFRESH_INTERVAL);
        if !self.is_refreshing && is_allowed {
            self.requested = Some(now);
            self.is_refreshing = true;
        }
        self.is_refreshing.then_some(self.finished_refreshes)
    }
}

/// The current keys.
#[derive(Clone)]
pub(crate) struct SharedKeySet {
    state: watch::Sender<RefreshState>,
    has_source: bool,
    /// The keys of the configuration; a refresh never removes them.
    configured: Arc<KeySet>,
    accepted_algorithms: Arc<[JwtAlgorithm]>,
}

impl SharedKeySet {
    pub(crate) fn new(configured: KeySet, accepted: Vec<JwtAlgorithm>, has_source: bool) -> Self {
        let configured = Arc::new(configured);
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

    /// Whether there is a source and no refresh has succeeded yet.
    pub(crate) fn is_unavailable(&self) -> bool {
        !self.state.borrow().is_loaded
    }

    /// Waits for a refresh that may bring more keys than `seen`. Returns whether a refresh has ended. Every request waits for the first
    /// refresh; later ones only concern requests with an unknown key name (`may_be_new`). If the keys have changed since `seen` was read,
    /// returns at once: another thread may publish a refresh between that read and this call.
    pub(super) async fn wait_for_refresh(&self, seen: &Arc<KeySet>, may_be_new: bool, now: Instant) -> bool {
        let (mut awaited, mut has_ended) = (None, false);
        if !self.has_source || self.state.receiver_count() >= WAITERS_MAX {
            return false;
        }
        self.state.send_if_modified(|state| {
            let was_refreshing = state.is_refreshing;
            has_ended = !Arc::ptr_eq(seen, &state.keys);
            awaited = match state.finished_refreshes {
                _ if has_ended => None,
                0 if was_refreshing => Some(0),
                _ if may_be_new => state.request_refresh(now),
                _ => None,
            };
            state.is_refreshing != was_refreshing
        });
        let Some(awaited) = awaited else { return has_ended };
        let mut changes = self.state.subscribe();
        timeout(REFRESH_WAIT_MAX, changes.wait_for(|state| state.finished_refreshes > awaited)).await.is_ok()
    }

    /// Waits until a refresh is requested.
    pub(crate) async fn refresh_requested(&self) {
        // `wait_for` cannot fail: `self` has the sender.
        let _ = self.state.subscribe().wait_for(|state| state.is_refreshing).await;
    }

    pub(crate) fn begin_refresh(&self) {
        self.state.send_modify(|state| state.is_refreshing = true);
    }

    /// Ends a refresh and publishes the fetched keys. Without fetched keys the previous keys stay.
    pub(crate) fn finish_refresh(&self, fetched: Option<KeySet>) {
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
        let configured = vec![VerificationKey::from_secret(b"0123456789abcdef0123456789abcdef")];
        SharedKeySet::new(configured, vec![JwtAlgorithm::Hs256], has_source)
    }

    /// A3: without a source no request waits
    #[tokio::test(start_paused = true)]
    async fn without_a_source_only_the_configured_keys_are_used() {
        let keys = keys(false);
        assert!(!keys.is_unavailable());
        assert_eq!(keys.current().len(), 1);
        assert!(!keys.wait_for_refresh(&keys.current(), true, clock::now()).await);
    }

    /// A3: unknown key names cause one refresh together, and no other for half a minute
    #[tokio::test(start_paused = true)]
    async fn unknown_key_names_cause_one_refresh() {
        let keys = keys(true);
        assert!(keys.is_unavailable());
        keys.finish_refresh(Some(Vec::new()));
        assert!(!keys.is_unavailable());
        let spawn_wait = |keys: &SharedKeySet| {
            let keys = keys.clone();
            let seen = keys.current();
            tokio::spawn(async move { keys.wait_for_refresh(&seen, true, clock::now()).await })
        };
        let (first, second) = (spawn_wait(&keys), spawn_wait(&keys));
        keys.refresh_requested().await;
        keys.finish_refresh(None);
        assert!(first.await.unwrap() && second.await.unwrap());
        assert!(!keys.wait_for_refresh(&keys.current(), true, clock::now()).await, "too soon");
        assert!(!keys.wait_for_refresh(&keys.current(), false, clock::now()).await, "a known key name");
        assert!(
            timeout(UNKNOWN_KEY_REFRESH_INTERVAL - Duration::from_secs(1), keys.refresh_requested())
                .await
                .is_err()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        let third = spawn_wait(&keys);
        keys.refresh_requested().await;
        keys.finish_refresh(None);
        assert!(third.await.unwrap());
    }

    /// A3: a failed refresh changes no key; a successful one replaces all keys except those of the configuration
    #[test]
    fn a_refresh_replaces_the_fetched_keys_or_changes_nothing() {
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

    /// A3: a request that read the keys just before they changed tries the new keys, even within the interval between refreshes
    #[tokio::test(start_paused = true)]
    async fn a_refresh_after_the_keys_were_read_counts() {
        let keys = keys(true);
        let before = keys.current();
        keys.finish_refresh(Some(vec![VerificationKey::from_secret(b"another secret of 32 characters..")]));
        assert!(keys.wait_for_refresh(&before, true, clock::now()).await);
        let seen = keys.current();
        keys.state.send_modify(|state| state.requested = Some(clock::now()));
        assert!(!keys.wait_for_refresh(&seen, true, clock::now()).await, "no refresh since");
    }

    /// A3: the wait for the first refresh has a timeout
    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_first_refresh_is_bounded() {
        let keys = keys(true);
        let began = tokio::time::Instant::now();
        assert!(!keys.wait_for_refresh(&keys.current(), false, clock::now()).await);
        assert_eq!(tokio::time::Instant::now() - began, REFRESH_WAIT_MAX);
    }
}
