//! The keys of two configurations that are the same key.
//!
//! Two configurations that follow each other mostly have the same keys in the same order. So keys are hashed only between the first and
//! the last position where the two lists differ.

use std::collections::HashMap;

use super::compact::CompactKey;

/// The pairs of two lists of keys.
pub(super) struct Pairs<'k> {
    old: &'k [CompactKey],
    new: &'k [CompactKey],
    /// how many keys at the beginning are the same, and how many at the end
    head: usize,
    tail: usize,
    /// the positions of the old key for each of the other new keys
    between: Vec<Option<usize>>,
}

impl<'k> Pairs<'k> {
    pub(super) fn of(old: &'k [CompactKey], new: &'k [CompactKey]) -> Self {
        let is_same = |(old, new): &(&CompactKey, &CompactKey)| old.identity() == new.identity();
        let head = old.iter().zip(new).take_while(is_same).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(is_same).count();
        let old_between = old.iter().enumerate().take(old.len() - tail).skip(head);
        let positions: HashMap<_, usize> = old_between.map(|(at, key)| (key.identity(), at)).collect();
        let new_between = &new[head..new.len() - tail];
        let between = new_between.iter().map(|key| positions.get(&key.identity()).copied()).collect();
        Self { old, new, head, tail, between }
    }

    /// The old key for the new key at this position.
    pub(super) fn old(&self, at: usize) -> Option<&'k CompactKey> {
        let from_end = self.new.len() - at;
        let old_at = match at.checked_sub(self.head) {
            None => at,
            Some(_) if from_end <= self.tail => self.old.len() - from_end,
            Some(between) => (*self.between.get(between)?)?,
        };
        self.old.get(old_at)
    }

    /// The old keys without a new one.
    pub(super) fn only_old(&self) -> impl Iterator<Item = &'k CompactKey> {
        let mut is_paired = vec![false; self.old.len() - self.tail];
        is_paired[..self.head].fill(true);
        self.between.iter().flatten().for_each(|at| is_paired[*at] = true);
        self.old.iter().zip(is_paired).filter(|(_, is_paired)| !is_paired).map(|(key, _)| key)
    }

    /// How many keys had to be hashed.
    #[cfg(test)]
    pub(super) fn hashed(&self) -> usize {
        self.old.len() - self.head - self.tail + self.between.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::effective::EffectiveConfig;
    use crate::{Sources, load_with_warnings};

    use super::*;

    fn effective(buckets: &[&str], timeout: &str) -> EffectiveConfig {
        let bucket = |name: &&str| {
            format!("[buckets.{name}.s3]\nendpoints = [\"http://store:9000\"]\ntimeout = \"{timeout}\"\n")
        };
        let text: String = buckets.iter().map(bucket).collect();
        load_with_warnings(Sources::default().text("t.toml", text)).unwrap().effective
    }

    /// G3: keys are compared in their order; only those between the first and the last difference of the lists are hashed
    #[test]
    fn only_keys_around_a_difference_are_hashed() {
        let all = effective(&["a", "b", "c", "d"], "10s");
        let changed = effective(&["a", "b", "c", "d"], "11s");
        assert_eq!(Pairs::of(&all.keys, &changed.keys).hashed(), 0, "the same keys with other values");
        let fewer = effective(&["a", "c", "d"], "10s");
        let of_bucket = all.keys.len() - fewer.keys.len();
        assert!(of_bucket > 50, "{of_bucket}");
        for (old, new) in [(&all, &fewer), (&fewer, &all)] {
            let hashed = Pairs::of(&old.keys, &new.keys).hashed();
            assert!(hashed <= of_bucket, "{hashed} of {of_bucket} keys");
        }
    }

    /// G3: the same key is a pair wherever the lists differ
    #[test]
    fn pairs_are_found_around_added_and_removed_sections() {
        let lists =
            [&["a", "b", "c"][..], &["a", "c"], &["b"], &["x", "a", "b", "y", "c", "z"], &["c", "d"], &[]];
        let effective: Vec<_> = lists.iter().map(|names| effective(names, "10s")).collect();
        for (old, new) in effective.iter().flat_map(|old| effective.iter().map(move |new| (old, new))) {
            let pairs = Pairs::of(&old.keys, &new.keys);
            for (at, key) in new.keys.iter().enumerate() {
                let expected = old.keys.iter().find(|old| old.identity() == key.identity());
                assert_eq!(pairs.old(at).map(CompactKey::identity), expected.map(CompactKey::identity));
            }
            let is_gone = |key: &&CompactKey| new.keys.iter().all(|new| new.identity() != key.identity());
            let expected: Vec<_> = old.keys.iter().filter(is_gone).map(CompactKey::identity).collect();
            assert_eq!(pairs.only_old().map(CompactKey::identity).collect::<Vec<_>>(), expected);
        }
    }
}
