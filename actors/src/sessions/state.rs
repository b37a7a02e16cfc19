//! A bounded cache: a map of entries, and a queue of stamps in insertion order.
//!
//! Inserting a key again appends a new stamp to the queue and leaves the old one behind as dead. Dead stamps are
//! pruned when they outnumber the capacity, at a constant cost per insertion.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// The part of the entries that is evicted at capacity: one in this many.
const EVICTED_SHARE: usize = 10;

#[derive(Debug)]
struct CacheEntry<V> {
    value: V,
    stamp: u64,
    inserted: Instant,
}

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheLookup<V> {
    Hit(V),
    /// The entry has expired.
    Expired,
    Miss,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    capacity: NonZeroUsize,
    ttl: Duration,
    entries: HashMap<K, CacheEntry<V>, ahash::RandomState>,
    order: VecDeque<(u64, K)>,
    next_stamp: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity: NonZeroUsize, ttl: Duration) -> Self {
        Self { capacity, ttl, entries: HashMap::default(), order: VecDeque::new(), next_stamp: 0 }
    }

    /// Looks up a key.
    pub(crate) fn get(&self, id: &K, now: Instant) -> CacheLookup<V> {
        match self.entries.get(id) {
            Some(entry) if now.saturating_duration_since(entry.inserted) < self.ttl => {
                CacheLookup::Hit(entry.value.clone())
            }
            Some(_) => CacheLookup::Expired,
            None => CacheLookup::Miss,
        }
    }

    /// Removes an entry that a lookup found expired.
    pub(crate) fn remove(&mut self, id: &K) {
        self.entries.remove(id);
    }

    /// Inserts an entry as the newest. Returns the number of evicted entries.
    pub(crate) fn insert(&mut self, id: K, value: V, now: Instant) -> usize {
        let full = self.entries.len() >= self.capacity.get() && !self.entries.contains_key(&id);
        let count = (self.capacity.get() / EVICTED_SHARE).max(1);
        let evicted = if full { self.evict(count) } else { 0 };
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        self.order.push_back((stamp, id.clone()));
        self.entries.insert(id, CacheEntry { value, stamp, inserted: now });
        self.prune_stamps();
        evicted
    }

    /// Removes the entries that `keep` does not keep.
    pub(super) fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        self.entries.retain(|id, entry| keep(id, &entry.value));
        self.order.retain(|(stamp, id)| self.entries.get(id).is_some_and(|entry| entry.stamp == *stamp));
    }

    /// Changes the capacity and the TTL, also of present entries. Returns the number of entries that were evicted
    /// because the capacity is lower.
    pub(super) fn reconfigure(&mut self, capacity: NonZeroUsize, ttl: Duration) -> usize {
        (self.capacity, self.ttl) = (capacity, ttl);
        let evicted = self.evict(self.entries.len().saturating_sub(capacity.get()));
        self.prune_stamps();
        evicted
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    /// Number of entries, including expired ones that were not looked up since.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity.get()
    }

    /// Evicts the oldest entries.
    fn evict(&mut self, count: usize) -> usize {
        let mut evicted = 0;
        while evicted < count {
            let Some((stamp, id)) = self.order.pop_front() else {
                break;
            };
            if self.is_live(stamp, &id) {
                self.entries.remove(&id);
                evicted += 1;
            }
        }
        evicted
    }

    fn prune_stamps(&mut self) {
        if self.order.len() > self.entries.len() + self.capacity.get() {
            let entries = &self.entries;
            self.order.retain(|(stamp, id)| entries.get(id).is_some_and(|entry| entry.stamp == *stamp));
        }
    }

    fn is_live(&self, stamp: u64, id: &K) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.stamp == stamp)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::sessions::{ClientIdentity, SessionId};

    const TTL: Duration = Duration::from_secs(60);

    fn id(n: usize) -> SessionId {
        SessionId::parse(&format!("session-{n}")).unwrap()
    }

    fn state(capacity: usize) -> Cache<SessionId, ClientIdentity> {
        Cache::new(NonZeroUsize::new(capacity).unwrap(), TTL)
    }

    fn has(state: &Cache<SessionId, ClientIdentity>, n: usize, now: Instant) -> bool {
        state.get(&id(n), now) == CacheLookup::Hit(ClientIdentity::Anonymous)
    }

    /// C1
    #[test]
    fn at_capacity_the_oldest_tenth_is_evicted_at_once() {
        let t0 = clock::now();
        let mut state = state(1000);
        for n in 0..1000 {
            assert_eq!(state.insert(id(n), ClientIdentity::Anonymous, t0), 0);
        }
        assert_eq!(
            state.insert(id(0), ClientIdentity::Anonymous, t0),
            0,
            "the key exists and is now the newest"
        );
        assert_eq!(state.insert(id(1000), ClientIdentity::Anonymous, t0), 100);
        assert_eq!(state.len(), 901);
        assert!(has(&state, 0, t0) && has(&state, 101, t0) && has(&state, 1000, t0));
        assert!((1..=100).all(|n| !has(&state, n, t0)));
        for n in 1001..1100 {
            assert_eq!(
                state.insert(id(n), ClientIdentity::Anonymous, t0),
                0,
                "no eviction below the capacity"
            );
        }
    }

    /// C1
    #[test]
    fn an_entry_expires_and_an_insertion_renews_it() {
        let t0 = clock::now();
        let mut state = state(10);
        state.insert(id(1), ClientIdentity::Anonymous, t0);
        state.insert(id(2), ClientIdentity::Anonymous, t0);
        state.insert(id(2), ClientIdentity::Anonymous, t0 + TTL / 2);
        assert!(has(&state, 1, t0 + TTL - Duration::from_nanos(1)));
        assert_eq!(state.get(&id(1), t0 + TTL), CacheLookup::Expired);
        assert!(has(&state, 2, t0 + TTL));
        state.remove(&id(1));
        assert_eq!(state.get(&id(1), t0), CacheLookup::Miss);
    }

    /// C1: the cache and its queue stay bounded, however often keys are inserted
    #[test]
    fn a_million_renewals_do_not_grow_it() {
        let t0 = clock::now();
        let mut state = state(100);
        for n in 0..1_000_000 {
            state.insert(id(n % 50), ClientIdentity::Anonymous, t0);
            assert!(state.order.len() <= 200, "{} stamps", state.order.len());
        }
        assert_eq!(state.len(), 50);
    }

    /// The same cache, implemented without regard for speed: oldest first.
    struct Naive {
        capacity: usize,
        entries: Vec<(usize, Instant)>,
    }

    impl Naive {
        fn insert(&mut self, n: usize, now: Instant) -> usize {
            let known = self.entries.iter().any(|(other, _)| *other == n);
            self.entries.retain(|(other, _)| *other != n);
            let evicted =
                if !known && self.entries.len() == self.capacity { (self.capacity / 10).max(1) } else { 0 };
            self.entries.drain(..evicted);
            self.entries.push((n, now + TTL));
            evicted
        }

        fn get(&mut self, n: usize, now: Instant) -> CacheLookup<ClientIdentity> {
            match self.entries.iter().find(|(other, _)| *other == n) {
                None => CacheLookup::Miss,
                Some((_, expires)) if now < *expires => CacheLookup::Hit(ClientIdentity::Anonymous),
                Some(_) => {
                    self.entries.retain(|(other, _)| *other != n);
                    CacheLookup::Expired
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Insert(usize),
        Get(usize),
        Advance(u64),
        Clear,
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// C1
        #[test]
        fn it_does_what_a_naive_cache_does(
            capacity in 1usize..25,
            ops in prop::collection::vec(prop_oneof![
                8 => (0usize..40).prop_map(Op::Insert),
                6 => (0usize..40).prop_map(Op::Get),
                2 => (0u64..40).prop_map(Op::Advance),
                1 => Just(Op::Clear),
            ], 1..400),
        ) {
            let mut now = clock::now();
            let mut state = state(capacity);
            let mut naive = Naive { capacity, entries: Vec::new() };
            for op in ops {
                match op {
                    Op::Advance(seconds) => now += Duration::from_secs(seconds),
                    Op::Clear => {
                        state.clear();
                        naive.entries.clear();
                    }
                    Op::Insert(n) => {
                        prop_assert_eq!(state.insert(id(n), ClientIdentity::Anonymous, now), naive.insert(n, now));
                    }
                    Op::Get(n) => {
                        let found = state.get(&id(n), now);
                        if found == CacheLookup::Expired {
                            state.remove(&id(n));
                        }
                        prop_assert_eq!(found, naive.get(n, now));
                    }
                }
                prop_assert_eq!(state.len(), naive.entries.len());
                prop_assert!(state.len() <= capacity && state.order.len() <= 2 * capacity);
            }
        }
    }
}
