//! A worker thread's cache in front of the session cache. A look-up on the own thread costs less than a message to an actor.
//!
//! Entries expire after their TTL. At capacity all entries are dropped and fetched again, which costs less than keeping them in order of
//! age.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Entries on one thread.
const ENTRIES_MAX: usize = 4096;

/// The cache of one thread.
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
        self.entries.borrow().get(key).filter(|(_, expires)| now < *expires).map(|(value, _)| value.clone())
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

    /// C1: the number of entries and their age are bounded
    #[test]
    fn entries_expire_and_their_number_is_bounded() {
        let (cache, now, ttl) = (TtlCache::default(), clock::now(), Duration::from_secs(1));
        for n in 0..=ENTRIES_MAX {
            cache.insert(n, n, now, ttl);
        }
        assert_eq!((cache.get(&0, now), cache.get(&ENTRIES_MAX, now)), (None, Some(ENTRIES_MAX)));
        assert_eq!(cache.get(&ENTRIES_MAX, now + ttl), None);
        cache.remove(&ENTRIES_MAX);
        assert_eq!(cache.get(&ENTRIES_MAX, now), None);
    }
}
