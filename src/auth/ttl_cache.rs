//! What one worker thread has asked the session cache for lately: a look-up on the own thread costs less than any question.
//!
//! Entries end with their time. At capacity all are dropped and asked for again, which costs less than an order of age would.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Entries on one thread.
const ENTRIES_MAX: usize = 4096;

/// What a thread knows.
pub(super) struct TtlCache<K, V> {
    entries: RefCell<HashMap<K, (V, Instant)>>,
}

impl<K, V> Default for TtlCache<K, V> {
    fn default() -> Self {
        Self { entries: RefCell::default() }
    }
}

impl<K: Eq + Hash, V: Clone> TtlCache<K, V> {
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        self.entries.borrow().get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    pub(super) fn insert(&self, key: K, value: V, now: Instant, ttl: Duration) {
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key, (value, now + ttl));
    }

    pub(super) fn remove(&self, key: &K) {
        self.entries.borrow_mut().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// C1: bounded, and no longer than the time it was given
    #[test]
    fn entries_end_with_their_time_and_are_bounded() {
        let (recent, now, ttl) = (TtlCache::default(), clock::now(), Duration::from_secs(1));
        for n in 0..=ENTRIES_MAX {
            recent.insert(n, n, now, ttl);
        }
        assert_eq!((recent.get(&0, now), recent.get(&ENTRIES_MAX, now)), (None, Some(ENTRIES_MAX)));
        assert_eq!(recent.get(&ENTRIES_MAX, now + ttl), None);
        recent.remove(&ENTRIES_MAX);
        assert_eq!(recent.get(&ENTRIES_MAX, now), None);
    }
}
