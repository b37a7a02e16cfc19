//! Warnings about patterns of two buckets that match the same name.
//!
//! An exact name has precedence over every glob, and `*` is a catch-all: neither is a mistake. Of two other globs the one with more
//! literal characters has precedence, and of equal ones the first by the name of the bucket (`src/router.rs`). Few users expect that.

use crate::bucket::Pattern;
use crate::schema::Section;
use crate::{Config, key_name};

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    let mut globs: Vec<(&str, &Pattern)> =
        config.buckets.iter().map(|(name, bucket)| (name.as_str(), &bucket.pattern)).collect();
    globs.retain(|(_, pattern)| !pattern.is_exact() && pattern.literal_len() > 0);
    // The order in which they are tried.
    globs.sort_by_key(|(_, pattern)| std::cmp::Reverse(pattern.literal_len()));
    for (at, (name, pattern)) in globs.iter().enumerate() {
        let mut winners = globs[..at].iter().filter(|(_, other)| other.overlaps(pattern));
        let Some((winner, other)) = winners.next() else { continue };
        let more = match winners.count() {
            0 => String::new(),
            count => format!("; {count} more patterns match too"),
        };
        let why = if other.literal_len() > pattern.literal_len() {
            "its pattern has more literal characters"
        } else {
            "its name is first in alphabetical order"
        };
        let winner = key_name(&["buckets", winner]);
        let message = format!(
            "\"{}\" and \"{}\" of {winner} match the same names, which go to {winner}: {why}{more}",
            pattern.as_str(),
            other.as_str()
        );
        root.within(&["buckets", name]).warn("pattern", message, None);
    }
}
