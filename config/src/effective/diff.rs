//! What differs between two effective configurations, key by key.
//!
//! A key counts as changed if its value in effect differs, also one that no source sets: its default may follow another key. A key with
//! the same value from another source is the same. Of an added or removed bucket, key or policy only the keys that are set are listed.
//! Hidden values are compared by their digests (`config/src/fingerprint.rs`), so a change of a secret, or of the content of a file, shows
//! without its value (C4).

use std::fmt;

use super::compact::CompactKey;
use super::pairs::Pairs;
use super::{EffectiveConfig, EffectiveKey, EffectiveValue};
use crate::problem::{Origin, Problem, Problems};
use crate::restart::restart_reason;

/// How a key differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChangeKind {
    /// only the new configuration has the key
    Added,
    /// only the old configuration has the key
    Removed,
    /// the value differs
    Changed,
}

/// One key that differs.
#[derive(Debug, Clone)]
pub struct KeyChange {
    /// how it differs
    pub kind: KeyChangeKind,
    /// the key with its old value
    pub old: Option<EffectiveKey>,
    /// the key with its new value
    pub new: Option<EffectiveKey>,
}

impl KeyChange {
    fn newest(&self) -> Option<&EffectiveKey> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// The key, such as `server.port`.
    pub fn key(&self) -> &str {
        self.newest().map_or("", |key| &key.key)
    }

    /// Where the new value is set; for a removed key, where the old one was.
    pub fn origin(&self) -> &Origin {
        self.newest().map_or(&Origin::Default, |key| &key.origin)
    }

    /// Why the change needs a restart, if it does.
    pub fn restart_reason(&self) -> Option<&'static str> {
        restart_reason(self.key(), has_value(self.old.as_ref()) != has_value(self.new.as_ref()))
    }

    /// Both values: `8080 → 9090`; or `changed`, if both are hidden.
    fn values(&self) -> String {
        match (shown(self.old.as_ref()), shown(self.new.as_ref())) {
            (old, new) if old == new => "changed".to_owned(),
            (old, new) => format!("{old} → {new}"),
        }
    }
}

/// The change on one line, without a secret.
impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key();
        match self.kind {
            KeyChangeKind::Added => write!(f, "+ {key} = {}", shown(self.new.as_ref()))?,
            KeyChangeKind::Removed => write!(f, "- {key} = {}", shown(self.old.as_ref()))?,
            KeyChangeKind::Changed => write!(f, "~ {key}: {}", self.values())?,
        }
        let line = self.newest().and_then(|key| key.line);
        match (self.origin(), line) {
            (Origin::File(path), Some(line)) => write!(f, " (from {}, line {line})", path.display()),
            (origin, _) => write!(f, " ({})", origin.of_value()),
        }
    }
}

fn has_value(key: Option<&EffectiveKey>) -> bool {
    key.is_some_and(|key| match &key.value {
        EffectiveValue::Absent => false,
        EffectiveValue::Toml(_) => true,
        EffectiveValue::Hidden(text) => text != super::NOT_SET,
    })
}

/// The value with its unit.
fn shown(key: Option<&EffectiveKey>) -> String {
    let Some(key) = key else { return super::NOT_SET.to_owned() };
    match (&key.value, key.unit) {
        (EffectiveValue::Absent, _) => super::NOT_SET.to_owned(),
        (EffectiveValue::Hidden(text), _) => text.clone(),
        // a text has its unit itself, as in "64MiB"
        (EffectiveValue::Toml(value), Some(unit)) if !value.starts_with('"') => format!("{value} {unit}"),
        (EffectiveValue::Toml(value), _) => value.clone(),
    }
}

/// All keys that differ, those of the new configuration first.
#[derive(Debug, Clone, Default)]
pub struct ConfigDiff {
    changes: Vec<KeyChange>,
    /// whether only the old configuration has buckets
    has_lost_buckets: bool,
}

impl ConfigDiff {
    /// What changes from one configuration to another. Both are of this process: digests of other processes have no meaning.
    pub fn of(old: &EffectiveConfig, new: &EffectiveConfig) -> Self {
        let pairs = Pairs::of(&old.keys, &new.keys);
        let compared = |(at, key): (usize, &CompactKey)| match pairs.old(at) {
            None => key.is_set().then(|| KeyChange {
                kind: KeyChangeKind::Added,
                old: None,
                new: Some(key.expand()),
            }),
            Some(other) if key.has_value_of(other) => None,
            Some(other) => Some(KeyChange {
                kind: KeyChangeKind::Changed,
                old: Some(other.expand()),
                new: Some(key.expand()),
            }),
        };
        let removed = pairs.only_old().filter(|key| key.is_set()).map(|key| KeyChange {
            kind: KeyChangeKind::Removed,
            old: Some(key.expand()),
            new: None,
        });
        let changes = new.keys.iter().enumerate().filter_map(compared).chain(removed).collect();
        Self { changes, has_lost_buckets: old.has_buckets() && !new.has_buckets() }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The keys that differ.
    pub fn iter(&self) -> std::slice::Iter<'_, KeyChange> {
        self.changes.iter()
    }

    /// Rejects what a running gateway cannot change: one problem for each key that needs a restart, and one if no bucket is left.
    ///
    /// # Errors
    /// There is such a change.
    pub fn check(&self) -> Result<(), Problems> {
        let problem = |change: &KeyChange| {
            let reason = change.restart_reason()?;
            let values = change.values();
            Some(Problem {
                key: change.key().to_owned(),
                source: change.origin().clone(),
                line: change.newest().and_then(|key| key.line),
                message: format!("cannot change while the gateway runs ({values}): {reason}"),
                hint: Some("restart the gateway, or take the change back".to_owned()),
            })
        };
        let mut problems: Vec<Problem> = self.changes.iter().filter_map(problem).collect();
        if self.has_lost_buckets {
            problems.push(Problem::no_buckets_left());
        }
        Problems::none_or(problems)
    }
}

impl<'a> IntoIterator for &'a ConfigDiff {
    type Item = &'a KeyChange;
    type IntoIter = std::slice::Iter<'a, KeyChange>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
