//! Guesses the intended key of an unknown key.
//!
//! In this order: the new name of a key of the older plan (G9); the key with the same name in another section; the nearest spelling,
//! if it is near enough. Otherwise there is no guess.

use std::cmp::Reverse;

use crate::reference::{MAPS, NAME};
use crate::setting::KeyPath;

/// Sections of the older plan and their new names.
const MOVED_SECTIONS: [(&[&str], &[&str]); 2] = [
    (&["server", "rate_limit"], &["rate_limit", "global"]),
    (&["server", "circuit_breaker"], &["buckets", "NAME", "s3", "circuit_breaker"]),
];

/// Keys of the older plan by their last segment, and their new names in a bucket.
const MOVED_KEYS: [(&str, &[&str]); 5] = [
    ("connection_pool_size", &["s3", "connection_pool", "size"]),
    ("max_idle_connections", &["s3", "connection_pool", "max_idle"]),
    ("path_prefix", &["pattern"]),
    ("access_key", &["s3", "access_key_id"]),
    ("secret_key", &["s3", "secret_access_key"]),
];

/// The intended key, out of `known`, in which NAME stands for any name.
pub(crate) fn for_key(unknown: &KeyPath, known: &[KeyPath]) -> Option<KeyPath> {
    let segments = unknown.segments();
    let (map, bucket) = match segments {
        [section, name, ..] => nearest_map(section).map_or((None, NAME), |map| (Some(map), name.as_str())),
        _ => (None, NAME),
    };
    if let Some(renamed) = map.and_then(|map| renamed(map, segments, known)) {
        return Some(renamed);
    }
    let moved = if map.is_none_or(|map| map == "buckets") { moved(segments, bucket) } else { None };
    moved.or_else(|| {
        let known: Vec<_> = known.iter().map(|path| with_bucket(path, bucket)).collect();
        let longer_name = known.iter().find(|path| is_longer_name(path, unknown));
        let same_name = known.iter().filter(|path| path.segments().last() == segments.last());
        let closest = same_name.min_by_key(|path| {
            (Reverse(shared_start(path, unknown)), path.segments().len(), section_edits(path, unknown))
        });
        let shorter = known.iter().filter(|path| is_longer_name(unknown, path));
        let shorter_name = shorter.max_by_key(|path| path.split_last().map_or(0, |(_, name)| name.len()));
        longer_name.or(closest).or(shorter_name).cloned().or_else(|| {
            let spelt = nearest(&unknown.to_string(), known.iter().map(KeyPath::to_string))?;
            known.into_iter().find(|path| path.to_string() == spelt)
        })
    })
}

/// The map nearest to the name of a section: `bucket` gives `buckets`, `policy` gives `policies`.
fn nearest_map(section: &str) -> Option<&'static str> {
    let singular = |map: &str| {
        map.strip_suffix("ies").map_or_else(|| map[..map.len() - 1].to_owned(), |stem| format!("{stem}y"))
    };
    MAPS.into_iter().find(|map| section == singular(map) || edits(section, map) <= map.len() / 3)
}

/// The same key below the intended map, or the section itself if no key is set in it.
fn renamed(map: &str, segments: &[String], known: &[KeyPath]) -> Option<KeyPath> {
    let (section, rest) = segments.split_first()?;
    let (name, key) = rest.split_first()?;
    if section == map {
        return None;
    }
    let path = KeyPath::new([map, name.as_str()].into_iter().chain(key.iter().map(String::as_str)));
    let is_known = key.is_empty() || known.iter().any(|known| with_bucket(known, name) == path);
    is_known.then_some(path)
}

/// The key of a variable with too few underscores: `BUCKETS_PHOTOS_AUTH` is `buckets.photos.auth`.
pub(crate) fn for_underscores(unknown: &KeyPath, known: &[KeyPath]) -> Option<KeyPath> {
    let words: Vec<&str> = unknown.segments().iter().map(|segment| segment.trim_matches('_')).collect();
    let text = words.join("_");
    let literal = |path: &KeyPath| -> usize {
        path.segments().iter().filter(|segment| *segment != NAME).map(String::len).sum()
    };
    let fitting = known.iter().filter_map(|path| Some((path, split_at_names(path.segments(), &text)?)));
    let (_, segments) = fitting.max_by_key(|(path, _)| (literal(path), Reverse(path.segments().len())))?;
    Some(KeyPath::new(segments))
}

/// The text split into these segments; NAME matches any text.
fn split_at_names(known: &[String], text: &str) -> Option<Vec<String>> {
    let (first, rest) = known.split_first()?;
    let with = |head: &str, tail: Option<Vec<String>>| {
        tail.map(|tail| [head.to_owned()].into_iter().chain(tail).collect::<Vec<_>>())
    };
    if first != NAME {
        let after = text.strip_prefix(first.as_str())?;
        return match rest {
            [] => after.is_empty().then(|| vec![first.clone()]),
            rest => with(first, split_at_names(rest, after.strip_prefix('_')?)),
        };
    }
    if rest.is_empty() {
        return (!text.is_empty()).then(|| vec![text.to_owned()]);
    }
    let mut cuts = text.match_indices('_').map(|(at, _)| at).filter(|at| *at > 0);
    cuts.find_map(|at| with(&text[..at], split_at_names(rest, &text[at + 1..])))
}

fn moved(segments: &[String], bucket: &str) -> Option<KeyPath> {
    let section = MOVED_SECTIONS
        .iter()
        .find(|(old, _)| segments.len() >= old.len() && segments.iter().zip(old.iter()).all(|(a, b)| a == b));
    if let Some((old, new)) = section {
        let rest = segments[old.len()..].iter().map(String::as_str);
        let path = KeyPath::new(new.iter().copied().chain(rest));
        return Some(with_bucket(&path, bucket));
    }
    let last = segments.last()?;
    let (_, new) = MOVED_KEYS.iter().find(|(old, _)| old == last)?;
    Some(KeyPath::new(["buckets", bucket].into_iter().chain(new.iter().copied())))
}

fn with_bucket(path: &KeyPath, bucket: &str) -> KeyPath {
    KeyPath::new(path.segments().iter().map(|segment| if segment == NAME { bucket } else { segment }))
}

fn shared_start(a: &KeyPath, b: &KeyPath) -> usize {
    a.segments().iter().zip(b.segments()).take_while(|(a, b)| a == b).count()
}

/// Edit distance of the sections' names; zero if the unknown key has no section.
fn section_edits(path: &KeyPath, unknown: &KeyPath) -> usize {
    match (path.split_last(), unknown.split_last()) {
        (Some((section, _)), Some((given, _))) if !given.segments().is_empty() => {
            edits(&given.to_string(), &section.to_string())
        }
        _ => 0,
    }
}

/// Whether `path` is in the section of `unknown` and its name contains the unknown one in whole words, as `request_timeout` contains
/// `timeout`. Parts of words do not count: `prot` is nearer to `port` than to `proxy_protocol`.
fn is_longer_name(path: &KeyPath, unknown: &KeyPath) -> bool {
    match (path.split_last(), unknown.split_last()) {
        (Some((section, name)), Some((unknown_section, unknown))) => {
            section == unknown_section && format!("_{name}_").contains(&format!("_{unknown}_"))
        }
        _ => false,
    }
}

/// The candidate with the lowest edit distance, if it is at most a third of its length.
pub(crate) fn nearest<S: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = S>) -> Option<S> {
    let ranked = candidates.into_iter().map(|candidate| (edits(word, candidate.as_ref()), candidate));
    let (distance, candidate) = ranked.min_by_key(|(distance, _)| *distance)?;
    (distance <= candidate.as_ref().chars().count() / 3).then_some(candidate)
}

/// Edit distance: insertions, deletions and replacements that turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_single_changes() {
        assert_eq!(edits("port", "port"), 0);
        assert_eq!(edits("prt", "port"), 1);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn a_word_far_from_all_candidates_has_no_guess() {
        assert_eq!(nearest("zebra", ["port", "address"]), None);
        assert_eq!(nearest("adress", ["port", "address"]), Some("address"));
    }
}
