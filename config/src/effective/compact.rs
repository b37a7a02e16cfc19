//! The stored form of a key: a gateway with a thousand buckets keeps a hundred thousand keys as long as it runs.
//!
//! What the keys of all buckets have in common is stored once. A value is stored only if it differs from the default.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::{EffectiveKey, EffectiveValue, NOT_SET, Shown};
use crate::fingerprint::Fingerprint;
use crate::problem::Origin;
use crate::reference::{MAPS, NAME, survey};
use crate::schema::{Entry, Walk};
use crate::setting::KeyPath;

/// The names in a path: of a bucket or key, and of a credential of the bucket.
type Names = Arc<[String]>;

/// The keys of the reference by path.
fn templates() -> &'static BTreeMap<KeyPath, Entry> {
    static TEMPLATES: OnceLock<BTreeMap<KeyPath, Entry>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let entries = survey().entries.into_iter();
        entries.map(|entry| (entry.path.clone(), entry)).collect()
    })
}

/// The positions of names in a path.
fn name_positions(segments: &[String]) -> &'static [usize] {
    match segments {
        [buckets, _, _, map, _, _, ..] if buckets == "buckets" && map == "credentials" => &[1, 4],
        [map, _, ..] if MAPS.contains(&map.as_str()) => &[1],
        _ => &[],
    }
}

/// A path with other names.
fn renamed(path: &KeyPath, names: &[String]) -> KeyPath {
    let mut segments = path.segments().to_vec();
    for (position, name) in name_positions(path.segments()).iter().zip(names) {
        segments[*position].clone_from(name);
    }
    KeyPath::new(segments)
}

/// A value that is not that of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OwnValue {
    shown: Option<Shown>,
    /// the digest of what it hides
    fingerprint: Option<Fingerprint>,
}

/// One key.
#[derive(Debug, Clone)]
pub(super) struct CompactKey {
    template: &'static Entry,
    names: Names,
    /// the value, if it is not that of the template
    own: Option<Box<OwnValue>>,
    /// where the key is set
    set: Option<Box<(Origin, Option<usize>)>>,
    is_independent: bool,
}

impl CompactKey {
    /// The key of an entry. `names` are those of the previous entry, which are shared if they are the same.
    pub(super) fn new(walk: &Walk, entry: &Entry, names: &mut Names) -> Option<Self> {
        let segments = entry.path.segments();
        let own: Vec<String> =
            name_positions(segments).iter().filter_map(|position| segments.get(*position).cloned()).collect();
        let unnamed = renamed(&entry.path, &[NAME.to_owned(), NAME.to_owned()]);
        if **names != *own {
            *names = own.into();
        }
        let template = templates().get(&unnamed)?;
        let setting = walk.settings.get(&entry.path);
        let is_own = entry.value != template.value || entry.fingerprint != template.fingerprint;
        let own = || Box::new(OwnValue { shown: entry.value.clone(), fingerprint: entry.fingerprint });
        Some(Self {
            template,
            names: Arc::clone(names),
            own: is_own.then(own),
            set: setting.map(|setting| Box::new((setting.origin.clone(), setting.line))),
            is_independent: setting.is_some() || !walk.is_presence_relevant(&entry.path),
        })
    }

    /// What is the same for the same key of two configurations. The template stands for its path, because there is one of each path.
    pub(super) fn identity(&self) -> (*const Entry, &[String]) {
        (self.template, &self.names)
    }

    /// Its path in the reference.
    pub(super) fn template_path(&self) -> &'static KeyPath {
        &self.template.path
    }

    /// Whether a source sets it.
    pub(super) fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// Whether the same key of another configuration has the same value. Values that are hidden are compared too.
    pub(super) fn has_value_of(&self, other: &Self) -> bool {
        self.own == other.own
    }

    /// The key with all that is known about it.
    pub(super) fn expand(&self) -> EffectiveKey {
        let Entry { path, docs, accepts, unit, is_secret, default, value, .. } = self.template;
        let (origin, line) = self.set.as_deref().cloned().unwrap_or((Origin::Default, None));
        let value = match self.own.as_deref().map_or(value, |own| &own.shown) {
            Some(Shown::Toml(value)) => EffectiveValue::Toml(value.clone()),
            Some(Shown::Hidden(text)) => EffectiveValue::Hidden(text.clone()),
            None if *is_secret => EffectiveValue::Hidden(NOT_SET.to_owned()),
            None => EffectiveValue::Absent,
        };
        EffectiveKey {
            key: renamed(path, &self.names).to_string(),
            value,
            unit: *unit,
            origin,
            line,
            default: default.value.clone().filter(|_| default.words.is_none()),
            default_text: default.words,
            accepts: accepts.clone(),
            is_independent: self.is_independent,
            docs,
        }
    }
}
