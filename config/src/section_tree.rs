//! The sections of a walk. Each exists once and has its settings, so reading a key compares names within its section only.
//!
//! A large configuration has tens of thousands of sections, and most of their keys are not set. A section without settings needs no
//! look-up for its keys.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::setting::{KeyPath, Setting};

/// The settings of a walk, in the order of their paths.
pub(crate) type SortedSettings = Vec<(KeyPath, Setting)>;

/// The position of a section in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SectionId(usize);

impl SectionId {
    pub(crate) const ROOT: Self = Self(0);
}

struct Node {
    path: Arc<KeyPath>,
    parent: Option<SectionId>,
    children: BTreeMap<Box<str>, SectionId>,
    /// the positions of the settings within it
    settings: Range<usize>,
    /// the positions of the entries of its keys
    entries: Vec<usize>,
    /// its keys, and its sections with all their keys, of which a check asked whether they are set
    asked: RefCell<BTreeSet<Box<str>>>,
}

impl Node {
    fn new(path: KeyPath, parent: Option<SectionId>, settings: Range<usize>) -> Self {
        Self {
            path: Arc::new(path),
            parent,
            children: BTreeMap::new(),
            settings,
            entries: Vec::new(),
            asked: RefCell::new(BTreeSet::new()),
        }
    }
}

/// All sections that a walk has entered.
pub(crate) struct SectionTree(Vec<Node>);

impl SectionTree {
    /// The root alone, with this number of settings.
    pub(crate) fn new(settings: usize) -> Self {
        Self(vec![Node::new(KeyPath::default(), None, 0..settings)])
    }

    fn node(&self, section: SectionId) -> &Node {
        &self.0[section.0]
    }

    /// The section of this name within another one.
    pub(crate) fn child(&mut self, section: SectionId, name: &str, settings: &SortedSettings) -> SectionId {
        if let Some(child) = self.node(section).children.get(name) {
            return *child;
        }
        let child = SectionId(self.0.len());
        let path = self.path(section).child(name);
        let settings = self.positions(section, name, settings);
        self.0.push(Node::new(path, Some(section), settings));
        self.0[section.0].children.insert(name.into(), child);
        child
    }

    /// The path of a section.
    pub(crate) fn path(&self, section: SectionId) -> &Arc<KeyPath> {
        &self.node(section).path
    }

    /// The positions of all settings within a section.
    pub(crate) fn all_positions(&self, section: SectionId) -> Range<usize> {
        self.node(section).settings.clone()
    }

    /// The positions of the settings with this name within a section: that of a key, or those of a section.
    pub(crate) fn positions(
        &self,
        section: SectionId,
        name: &str,
        settings: &SortedSettings,
    ) -> Range<usize> {
        let Node { path, settings: range, .. } = self.node(section);
        // they share the path of the section, so the next segment gives their order
        let depth = path.segments().len();
        let within = &settings[range.clone()];
        let compare = |path: &KeyPath| path.segments().get(depth).map(String::as_str).cmp(&Some(name));
        let from = within.partition_point(|(path, _)| compare(path).is_lt());
        let count = within[from..].partition_point(|(path, _)| compare(path).is_eq());
        range.start + from..range.start + from + count
    }

    /// The position of the setting of a key.
    pub(crate) fn position(
        &self,
        section: SectionId,
        name: &str,
        settings: &SortedSettings,
    ) -> Option<usize> {
        let depth = self.path(section).segments().len();
        // the path of a key is the first of those that begin with it
        let first = self.positions(section, name, settings).next()?;
        (settings[first].0.segments().len() == depth + 1).then_some(first)
    }

    /// Adds the entry of a key of a section.
    pub(crate) fn add_entry(&mut self, section: SectionId, at: usize) {
        self.0[section.0].entries.push(at);
    }

    /// The positions of the entries of a section's keys.
    pub(crate) fn entries(&self, section: SectionId) -> &[usize] {
        &self.node(section).entries
    }

    /// Records that a check asked whether a key or a section is set.
    pub(crate) fn ask(&self, section: SectionId, name: &str) {
        let mut asked = self.node(section).asked.borrow_mut();
        if !asked.contains(name) {
            asked.insert(name.into());
        }
    }

    /// Whether a check asked for this key of a section.
    pub(crate) fn is_asked(&self, section: SectionId, name: &str) -> bool {
        self.node(section).asked.borrow().contains(name)
    }

    /// Whether a check asked for a section, or for one that it is within.
    pub(crate) fn is_section_asked(&self, section: SectionId) -> bool {
        let Node { path, parent, .. } = self.node(section);
        let (Some(parent), Some(name)) = (*parent, path.segments().last()) else { return false };
        self.is_asked(parent, name) || self.is_section_asked(parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Origin;
    use crate::setting::Raw;

    fn settings(paths: &[&[&str]]) -> SortedSettings {
        let setting = || Setting { raw: Raw::Empty, origin: Origin::Default, line: None };
        let mut settings: SortedSettings =
            paths.iter().map(|path| (KeyPath::new(path.iter().copied()), setting())).collect();
        settings.sort_by(|(one, _), (other, _)| one.cmp(other));
        settings
    }

    /// G1: a key has the setting with exactly its path; a section those that begin with it
    #[test]
    fn a_section_has_the_settings_within_it() {
        let settings =
            settings(&[&["a"], &["a", "b"], &["a", "b", "c"], &["a.b"], &["ab", "c"], &["b", "c"]]);
        let mut tree = SectionTree::new(settings.len());
        let names = |range: Range<usize>| -> Vec<String> {
            settings[range].iter().map(|(path, _)| path.to_string()).collect()
        };
        let a = tree.child(SectionId::ROOT, "a", &settings);
        assert_eq!(names(tree.all_positions(a)), ["a", "a.b", "a.b.c"]);
        assert_eq!(names(tree.positions(a, "b", &settings)), ["a.b", "a.b.c"]);
        assert_eq!(tree.position(a, "b", &settings), Some(1));
        let b = tree.child(a, "b", &settings);
        assert_eq!(tree.position(b, "c", &settings), Some(2));
        assert_eq!((tree.position(b, "b", &settings), tree.position(a, "c", &settings)), (None, None));
        assert_eq!(tree.position(SectionId::ROOT, "ab", &settings), None, "a section, not a key");
        let absent = tree.child(SectionId::ROOT, "absent", &settings);
        assert!(tree.all_positions(absent).is_empty());
        assert_eq!(tree.child(SectionId::ROOT, "a", &settings), a, "each section exists once");
    }

    /// O4: a check that asks for a section asks for all keys within it
    #[test]
    fn a_question_about_a_section_covers_its_keys() {
        let mut tree = SectionTree::new(0);
        let settings = SortedSettings::new();
        let a = tree.child(SectionId::ROOT, "a", &settings);
        let b = tree.child(a, "b", &settings);
        tree.ask(a, "b");
        tree.ask(a, "key");
        assert!(tree.is_asked(a, "key") && !tree.is_section_asked(a) && tree.is_section_asked(b));
    }
}
