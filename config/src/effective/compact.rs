//! The stored form of a key: a gateway with a thousand buckets keeps a hundred thousand keys as long as it runs.
//!
//! What the keys of all buckets have in common is stored once. A value is stored only if it differs from the default.

use std::sync::Arc;

use super::{EffectiveKey, EffectiveValue, NOT_SET, Shown};
use crate::fingerprint::Fingerprint;
use crate::problem::Origin;
use crate::reference::template::{TemplateSection, names, renamed, template_section};
use crate::schema::{Entry, Walk};
use crate::section_tree::SectionId;

/// The names in a path: of a bucket or key, and of a credential of the bucket.
type Names = Arc<[String]>;

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
    /// What is the same for the same key of two configurations. The template stands for its path, because there is one of each path.
    pub(super) fn identity(&self) -> (*const Entry, &[String]) {
        (self.template, &self.names)
    }

    /// The name of its section at the top level.
    pub(super) fn top_section(&self) -> Option<&'static str> {
        self.template.path.section.segments().first().map(String::as_str)
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
        let Entry { path, docs, accepts, unit, is_secret, default, .. } = self.template;
        let (origin, line) = self.set.as_deref().cloned().unwrap_or((Origin::Default, None));
        let shown = match self.own.as_deref() {
            Some(own) => own.shown.clone(),
            None => shown(self.template, self.template),
        };
        let value = match shown {
            Some(Shown::Toml(value)) => EffectiveValue::Toml(value),
            Some(Shown::Hidden(text)) => EffectiveValue::Hidden(text),
            None if *is_secret => EffectiveValue::Hidden(NOT_SET.to_owned()),
            None => EffectiveValue::Absent,
        };
        EffectiveKey {
            key: renamed(&path.whole(), self.names.iter().map(String::as_str)).to_string(),
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

fn shown(entry: &Entry, template: &Entry) -> Option<Shown> {
    entry.shown(template).map(std::borrow::Cow::into_owned)
}

/// What the keys of one section have in common.
struct SectionOfKeys {
    id: SectionId,
    names: Names,
    template: &'static TemplateSection,
    /// whether a check asked if the section is set
    is_asked: bool,
}

/// Makes the keys from the entries of a walk.
pub(super) struct Compactor<'w> {
    walk: &'w Walk,
    /// the names of the last key
    names: Names,
    /// the section of the last key
    section: Option<SectionOfKeys>,
}

impl<'w> Compactor<'w> {
    pub(super) fn new(walk: &'w Walk) -> Self {
        Self { walk, names: Names::default(), section: None }
    }

    /// The section of an entry. Keys with the same names share them.
    fn section(&mut self, entry: &Entry) -> Option<&SectionOfKeys> {
        if self.section.as_ref().is_none_or(|section| section.id != entry.section) {
            let path = &entry.path.section;
            if !names(path).eq(self.names.iter().map(String::as_str)) {
                self.names = names(path).map(str::to_owned).collect();
            }
            self.section = template_section(path).map(|template| SectionOfKeys {
                id: entry.section,
                names: Arc::clone(&self.names),
                template,
                is_asked: self.walk.tree.is_section_asked(entry.section),
            });
        }
        self.section.as_ref()
    }

    /// The key of an entry; none if no release has it.
    pub(super) fn key(&mut self, entry: &Entry) -> Option<CompactKey> {
        let walk = self.walk;
        let section = self.section(entry)?;
        let template = section.template.get(entry.path.name)?;
        let setting = walk.setting(entry);
        let own = || Box::new(OwnValue { shown: shown(entry, template), fingerprint: entry.fingerprint });
        // setting the key can only change another value if a check asked whether it is set
        let is_asked = section.is_asked || walk.tree.is_asked(entry.section, entry.path.name);
        Some(CompactKey {
            template,
            names: Arc::clone(&section.names),
            own: entry.differs_from(template).then(own),
            set: setting.map(|setting| Box::new((setting.origin.clone(), setting.line))),
            is_independent: setting.is_some() || !is_asked,
        })
    }
}
