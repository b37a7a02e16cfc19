//! Stable identities: an ID is assigned to a configured name once and never reused in a process.
//!
//! A reload keeps the ID of a name that stays. A name that goes loses its ID, and gets a new one if it comes back. So a
//! position in a table never turns one bucket or key into another (`docs/design/reload.md`).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use tidegate_config::Config;

use crate::types::{BucketId, KeyId};

/// The IDs of all configured buckets and keys, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    buckets: BTreeMap<String, u32>,
    next_bucket: u32,
    client_keys: BTreeMap<String, u32>,
    api_keys: BTreeMap<String, u32>,
    next_key: u32,
}

/// Gives each name its present ID, or the next one. Names that are not listed lose theirs.
fn assign<'a>(ids: &mut BTreeMap<String, u32>, next: &mut u32, names: impl Iterator<Item = &'a String>) {
    let mut old = std::mem::take(ids);
    for name in names {
        let id = old.remove(name).unwrap_or_else(|| {
            let id = *next;
            *next = next.saturating_add(1);
            id
        });
        ids.insert(name.clone(), id);
    }
}

impl Ids {
    /// The IDs of a first configuration.
    pub fn new(config: &Config) -> Self {
        Self::default().reloaded(config)
    }

    /// The IDs of the next configuration: a name that stays keeps its ID.
    #[must_use]
    pub fn reloaded(&self, config: &Config) -> Self {
        let mut ids = self.clone();
        assign(&mut ids.buckets, &mut ids.next_bucket, config.buckets.keys());
        assign(&mut ids.client_keys, &mut ids.next_key, config.keys.keys());
        assign(&mut ids.api_keys, &mut ids.next_key, config.api_keys.keys());
        ids
    }

    /// The buckets with their IDs, in the order of their names, as in the configuration.
    pub fn buckets(&self) -> impl Iterator<Item = (&str, BucketId)> {
        self.buckets.iter().map(|(name, id)| (name.as_str(), BucketId::new(*id)))
    }

    /// The client keys with their IDs, in the order of their names, as in the configuration.
    pub fn client_keys(&self) -> impl Iterator<Item = (&str, KeyId)> {
        self.client_keys.iter().map(|(name, id)| (name.as_str(), KeyId::new(*id)))
    }

    /// The API keys with their IDs, in the order of their names, as in the configuration.
    pub fn api_keys(&self) -> impl Iterator<Item = (&str, KeyId)> {
        self.api_keys.iter().map(|(name, id)| (name.as_str(), KeyId::new(*id)))
    }

    /// The ID of a bucket.
    pub fn bucket(&self, name: &str) -> Option<BucketId> {
        self.buckets.get(name).copied().map(BucketId::new)
    }
}

/// An ID that an [`IdMap`] can find.
pub trait Id: Copy + Ord {
    /// The number of the ID: the count of IDs of its kind that were assigned before it.
    fn number(self) -> u32;
}

impl Id for BucketId {
    fn number(self) -> u32 {
        self.number()
    }
}

impl Id for KeyId {
    fn number(self) -> u32 {
        self.number()
    }
}

/// A table by ID. It holds as many entries as there are IDs, however many IDs were assigned before.
///
/// Until a name goes, the number of an ID is its position, so a look-up is one comparison. Afterwards it is a binary search.
#[derive(Clone)]
pub struct IdMap<I, T> {
    /// Sorted by ID.
    entries: Vec<(I, T)>,
}

impl<I, T> Default for IdMap<I, T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<I: fmt::Debug, T: fmt::Debug> fmt::Debug for IdMap<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter().map(|(id, value)| (id, value))).finish()
    }
}

impl<I: Id, T> FromIterator<(I, T)> for IdMap<I, T> {
    /// If an ID occurs twice, one of its values is kept.
    fn from_iter<E: IntoIterator<Item = (I, T)>>(entries: E) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(id, _)| *id);
        entries.dedup_by_key(|(id, _)| *id);
        Self { entries }
    }
}

impl<I: Id, T> IdMap<I, T> {
    #[inline]
    fn position(&self, id: I) -> Option<usize> {
        let guess = id.number() as usize;
        if self.entries.get(guess).is_some_and(|(own, _)| *own == id) {
            return Some(guess);
        }
        self.entries.binary_search_by_key(&id, |(own, _)| *own).ok()
    }

    /// The value of an ID.
    #[inline]
    pub fn get(&self, id: I) -> Option<&T> {
        self.position(id).map(|at| &self.entries[at].1)
    }

    /// The value of an ID.
    #[inline]
    pub fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.position(id).map(|at| &mut self.entries[at].1)
    }

    /// Takes the value of an ID out of the table.
    pub fn remove(&mut self, id: I) -> Option<T> {
        self.position(id).map(|at| self.entries.remove(at).1)
    }

    /// Keeps the entries that `keep` keeps, at the cost of one pass.
    pub fn retain(&mut self, mut keep: impl FnMut(I, &T) -> bool) {
        self.entries.retain(|(id, value)| keep(*id, value));
    }

    /// Sets the value of an ID.
    pub fn insert(&mut self, id: I, value: T) {
        match self.entries.binary_search_by_key(&id, |(own, _)| *own) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (id, value)),
        }
    }

    /// All entries, in the order of their IDs.
    pub fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.entries.iter().map(|(id, value)| (*id, value))
    }

    /// All values, in the order of their IDs.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// All values, in the order of their IDs.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.entries.into_iter().map(|(_, value)| value)
    }

    /// All values, in the order of their IDs.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<I: Id, T> Index<I> for IdMap<I, T> {
    type Output = T;

    /// The value of an ID that is in the table. Any other ID is a defect, like an index beyond the end of a slice.
    #[inline]
    fn index(&self, id: I) -> &T {
        let at = self.position(id).unwrap_or(usize::MAX);
        &self.entries[at].1
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::Sources;

    use super::*;

    fn config(buckets: &[&str]) -> Config {
        let bucket = |name: &&str| {
            format!("[buckets.{name}]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://127.0.0.1:9\"]\n")
        };
        let text: String = buckets.iter().map(bucket).collect();
        tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
    }

    /// G3: an added name changes the ID of no other, and no ID is used twice
    #[test]
    fn ids_stay_with_their_names() {
        let first = Ids::new(&config(&["b", "d"]));
        let [b, d] = ["b", "d"].map(|name| first.bucket(name).unwrap());
        assert_ne!(b, d);
        let second = first.reloaded(&config(&["a", "b", "c", "d"]));
        assert_eq!([second.bucket("b"), second.bucket("d")], [Some(b), Some(d)]);
        let third = second.reloaded(&config(&["d"]));
        assert_eq!((third.bucket("b"), third.bucket("d")), (None, Some(d)));
        let fourth = third.reloaded(&config(&["b", "d"]));
        let again = fourth.bucket("b").unwrap();
        let used = ["a", "b", "c", "d"].map(|name| second.bucket(name).unwrap());
        assert!(!used.contains(&again), "{again:?} was used before");
    }

    /// G3: a table finds each ID and only present ones, with and without gaps
    #[test]
    fn a_table_finds_its_ids() {
        let ids = |numbers: &[u32]| -> IdMap<BucketId, u32> {
            numbers.iter().map(|number| (BucketId::new(*number), *number)).collect()
        };
        for numbers in [&[0, 1, 2][..], &[1, 2, 5], &[7], &[], &[0, 9, 4]] {
            let mut table = ids(numbers);
            for number in 0..12 {
                let expected = numbers.contains(&number).then_some(number);
                assert_eq!(table.get(BucketId::new(number)).copied(), expected, "{numbers:?}");
                assert_eq!(table.get_mut(BucketId::new(number)).copied(), expected, "{numbers:?}");
            }
        }
        let mut table = ids(&[1, 3]);
        table.insert(BucketId::new(2), 20);
        table.insert(BucketId::new(3), 30);
        assert_eq!(table.remove(BucketId::new(1)), Some(1));
        let entries: Vec<_> = table.iter().map(|(id, value)| (id.number(), *value)).collect();
        assert_eq!(entries, [(2, 20), (3, 30)]);
        table.retain(|id, value| id.number() == 3 && *value == 30);
        assert_eq!(
            (table.get(BucketId::new(2)), table.get(BucketId::new(3)), table.len()),
            (None, Some(&30), 1)
        );
    }
}
