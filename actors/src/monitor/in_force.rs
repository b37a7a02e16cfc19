//! The actions in force, published for every request, and what they have touched.
//!
//! A check of an action is one relaxed load and a bit test. Counters change only while their action is in force.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::monitor::actions::{ACTIONS, Action, ActionRule, ActionRules, ActionSet, InForce};
use crate::monitor::metrics::ActionMetrics;

/// An action that is in force.
#[derive(Debug, Clone, Copy)]
struct Episode {
    since: Instant,
    touched_before: u64,
}

/// The state of an action.
#[derive(Debug, Clone, Copy)]
pub struct ActionView {
    /// Which action.
    pub action: Action,
    /// Its level and mode.
    pub rule: ActionRule,
    /// Since when it is in force; none if it is not.
    pub since: Option<Instant>,
    /// What it has touched since the start of the process; in shadow mode, what it would have touched.
    pub touched: u64,
    /// The same since it is in force; none if it is not.
    pub touched_in_force: Option<u64>,
}

/// The published set, on a cache line of its own: the counters beside it change with requests.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Published(AtomicU32);

/// The actions of the process.
#[derive(Debug)]
pub struct OverloadActions {
    published: Published,
    /// `ActionRules`, so that a reload replaces all at once.
    rules: AtomicU64,
    metrics: ActionMetrics,
    episodes: Mutex<[Option<Episode>; ACTIONS]>,
}

impl OverloadActions {
    pub(crate) fn new(rules: ActionRules, metrics: ActionMetrics) -> Self {
        let (published, rules) = (Published::default(), AtomicU64::new(rules.0));
        Self { published, rules, metrics, episodes: Mutex::new([None; ACTIONS]) }
    }

    pub(crate) fn rules(&self) -> ActionRules {
        ActionRules(self.rules.load(Ordering::Relaxed))
    }

    /// Replaces the configuration. The monitor publishes the actions in force afterwards.
    pub(super) fn set_rules(&self, rules: ActionRules) {
        self.rules.store(rules.0, Ordering::Relaxed);
    }

    /// Publishes the actions in force after a sample.
    pub(super) fn publish(&self, set: ActionSet, now: Instant) {
        let mut episodes = self.episodes();
        for (episode, action) in episodes.iter_mut().zip(Action::ALL) {
            let is_in_force = set.check(action).is_some();
            *episode = is_in_force.then(|| {
                let began = || Episode { since: now, touched_before: self.metrics.touched(action) };
                episode.unwrap_or_else(began)
            });
            self.metrics.set_in_force(action, is_in_force);
        }
        self.published.0.store(set.0, Ordering::Release);
    }

    /// Whether an action is in force, and how. Nothing is counted.
    #[inline]
    pub fn check(&self, action: Action) -> Option<InForce> {
        ActionSet(self.published.0.load(Ordering::Relaxed)).check(action)
    }

    /// Whether the caller must act. Counts one if the action is in force, also in shadow mode.
    #[inline]
    pub fn applies(&self, action: Action) -> bool {
        self.count(action) == Some(InForce::Enforced)
    }

    /// The same, with the mode.
    #[inline]
    pub fn count(&self, action: Action) -> Option<InForce> {
        let in_force = self.check(action)?;
        self.touch(action, 1);
        Some(in_force)
    }

    /// Counts what an action has touched, or in shadow mode would have touched.
    #[cold]
    pub fn touch(&self, action: Action, count: u64) {
        // What was published before the set is visible afterwards: the reason of the level.
        fence(Ordering::Acquire);
        self.metrics.touch(action, count);
    }

    /// The current configuration of an action.
    pub fn rule(&self, action: Action) -> ActionRule {
        self.rules().of(action)
    }

    /// The state of all actions, in the order of the table.
    pub fn views(&self) -> [ActionView; ACTIONS] {
        let episodes = *self.episodes();
        Action::ALL.map(|action| {
            let (episode, touched) = (episodes[action as usize], self.metrics.touched(action));
            ActionView {
                action,
                rule: self.rule(action),
                since: episode.map(|episode| episode.since),
                touched,
                touched_in_force: episode.map(|episode| touched.saturating_sub(episode.touched_before)),
            }
        })
    }

    fn episodes(&self) -> MutexGuard<'_, [Option<Episode>; ACTIONS]> {
        self.episodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
