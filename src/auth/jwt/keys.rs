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
const PATIENCE: Duration = Duration::from_secs(6);
/// Requests that may wait at a time: a source that hangs must not hold all that the process can serve.
const WAITING_MAX: usize = 256;
/// How often a name that nobody knows may cause a round.
const NUDGE_PAUSE: Duration = Duration::from_secs(30);

struct State {
    keys: Arc<KeySet>,
    /// A round has succeeded, or there is nothing to fetch.
    is_held: bool,
    /// Rounds that have ended.
    rounds: u64,
    /// A round is under way, or wanted.
    is_under_way: bool,
    nudged: Option<Instant>,
}

impl State {
    /// Wants a round for a name that nobody knows; says which one to wait for, if any.
    fn nudge(&mut self, now: Instant) -> Option<u64> {
        let may = self.nudged.is_none_or(|at| now.saturating_duration_since(at) >= NUDGE_PAUSE);
        if !self.is_under_way && may {
            self.nudged = Some(now);
            self.is_under_way = true;
        }
        self.is_under_way.then_some(self.rounds)
    }
}

/// The keys.
#[derive(Clone)]
pub(super) struct Keys {
    state: watch::Sender<State>,
    has_source: bool,
    /// Those of the configuration, which no round takes away.
    own: Arc<KeySet>,
    accepted: Arc<[JwtAlgorithm]>,
}

impl Keys {
    pub(super) fn new(own: KeySet, accepted: Vec<JwtAlgorithm>, has_source: bool) -> Self {
        let own = Arc::new(own);
        let state = watch::Sender::new(State {
            keys: Arc::clone(&own),
            is_held: !has_source,
            rounds: 0,
            is_under_way: has_source,
            nudged: None,
        });
        Self { state, has_source, own, accepted: accepted.into() }
    }

    pub(super) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.borrow().keys)
    }

    /// Whether keys are to be fetched and none ever were.
    pub(super) fn are_missing(&self) -> bool {
        !self.state.borrow().is_held
    }

    /// Waits for the round that may know more than these keys; whether there was one. The first is waited for in any case, a
    /// later one only for the sake of a name that nobody knows. One that ended since these keys were looked at is waited for no
    /// more: another thread may publish it between the look and this question.
    pub(super) async fn hear_more(&self, seen: &Arc<KeySet>, may_be_new: bool, now: Instant) -> bool {
        let (mut round, mut has_ended) = (None, false);
        if !self.has_source || self.state.receiver_count() >= WAITING_MAX {
            return false;
        }
        self.state.send_if_modified(|state| {
            let was_under_way = state.is_under_way;
            has_ended = !Arc::ptr_eq(seen, &state.keys);
            round = match state.rounds {
                _ if has_ended => None,
                0 if was_under_way => Some(0),
                _ if may_be_new => state.nudge(now),
                _ => None,
            };
            state.is_under_way != was_under_way
        });
        let Some(round) = round else { return has_ended };
        let mut news = self.state.subscribe();
        timeout(PATIENCE, news.wait_for(|state| state.rounds > round)).await.is_ok()
    }

    /// Waits until somebody wants a round.
    pub(super) async fn are_wanted(&self) {
        // The sender is held here, so there is always news to come.
        let _ = self.state.subscribe().wait_for(|state| state.is_under_way).await;
    }

    pub(super) fn begin_round(&self) {
        self.state.send_modify(|state| state.is_under_way = true);
    }

    /// Ends a round: these keys hold from now on, or those from before.
    pub(super) fn end_round(&self, fetched: Option<KeySet>) {
        let keys = fetched.map(|fetched| {
            let accepted = fetched.into_iter().filter(|key| self.accepted.contains(&key.algorithm()));
            Arc::new(self.own.iter().cloned().chain(accepted).collect())
        });
        self.state.send_modify(|state| {
            if let Some(keys) = keys {
                state.keys = keys;
                state.is_held = true;
            }
            state.rounds += 1;
            state.is_under_way = false;
        });
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::super::key::Key;
    use super::*;

    fn keys(has_source: bool) -> Keys {
        let own = vec![Key::secret(b"0123456789abcdef0123456789abcdef")];
        Keys::new(own, vec![JwtAlgorithm::Hs256], has_source)
    }

    /// A3: without a source there is nothing to wait for
    #[tokio::test(start_paused = true)]
    async fn keys_of_the_configuration_are_all_there_is() {
        let keys = keys(false);
        assert!(!keys.are_missing());
        assert_eq!(keys.current().len(), 1);
        assert!(!keys.hear_more(&keys.current(), true, clock::now()).await);
    }

    /// A3: names that nobody knows cause one round together, and no other for half a minute
    #[tokio::test(start_paused = true)]
    async fn invented_names_cause_one_round() {
        let keys = keys(true);
        assert!(keys.are_missing());
        keys.end_round(Some(Vec::new()));
        assert!(!keys.are_missing());
        let asking = |keys: &Keys| {
            let keys = keys.clone();
            let seen = keys.current();
            tokio::spawn(async move { keys.hear_more(&seen, true, clock::now()).await })
        };
        let (first, second) = (asking(&keys), asking(&keys));
        keys.are_wanted().await;
        keys.end_round(None);
        assert!(first.await.unwrap() && second.await.unwrap());
        assert!(!keys.hear_more(&keys.current(), true, clock::now()).await, "too soon");
        assert!(!keys.hear_more(&keys.current(), false, clock::now()).await, "a name that is known");
        assert!(timeout(NUDGE_PAUSE - Duration::from_secs(1), keys.are_wanted()).await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let third = asking(&keys);
        keys.are_wanted().await;
        keys.end_round(None);
        assert!(third.await.unwrap());
    }

    /// A3: a round that fails leaves the keys; one that succeeds leaves no key that it did not bring, but the configuration's
    #[test]
    fn a_round_replaces_the_set_or_leaves_it() {
        let keys = keys(true);
        keys.end_round(None);
        assert!(keys.are_missing());
        let other = Key::secret(b"another secret of 32 characters..");
        keys.begin_round();
        keys.end_round(Some(vec![other]));
        assert_eq!((keys.current().len(), keys.are_missing()), (2, false));
        keys.end_round(None);
        assert_eq!(keys.current().len(), 2);
        keys.end_round(Some(Vec::new()));
        assert_eq!(keys.current().len(), 1);
    }

    /// A3: who looked at the keys just before a round brought others hears of them, however soon that is after the last round
    #[tokio::test(start_paused = true)]
    async fn a_round_that_ended_since_the_look_is_news() {
        let keys = keys(true);
        let before = keys.current();
        keys.end_round(Some(vec![Key::secret(b"another secret of 32 characters..")]));
        assert!(keys.hear_more(&before, true, clock::now()).await);
        let seen = keys.current();
        keys.state.send_modify(|state| state.nudged = Some(clock::now()));
        assert!(!keys.hear_more(&seen, true, clock::now()).await, "nothing since");
    }

    /// A3: a first round that never ends is waited for with patience, not for ever
    #[tokio::test(start_paused = true)]
    async fn the_first_round_is_waited_for() {
        let keys = keys(true);
        let began = tokio::time::Instant::now();
        assert!(!keys.hear_more(&keys.current(), false, clock::now()).await);
        assert_eq!(tokio::time::Instant::now() - began, PATIENCE);
    }
}
