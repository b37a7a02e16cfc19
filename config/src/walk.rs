//! The state of one walk over the keys: the settings, what was read, and the problems.

use std::sync::Arc;

use crate::entry::{Docs, Entry};
use crate::problem::Problem;
use crate::schema::Section;
use crate::section_tree::{SectionId, SectionTree, SortedSettings};
use crate::setting::{KeyPath, Setting, Settings};

/// The state of one walk.
pub(crate) struct Walk {
    pub(crate) settings: SortedSettings,
    pub(crate) tree: SectionTree,
    pub(crate) entries: Vec<Entry>,
    pub(crate) sections: Vec<(Arc<KeyPath>, Docs)>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// whether the entries have the texts of the reference
    pub(crate) is_survey: bool,
}

impl Default for Walk {
    fn default() -> Self {
        Self::over(Settings::default())
    }
}

impl Walk {
    pub(crate) fn over(settings: Settings) -> Self {
        let settings: SortedSettings = settings.into_iter().collect();
        Self {
            tree: SectionTree::new(settings.len()),
            settings,
            entries: Vec::new(),
            sections: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            is_survey: false,
        }
    }

    /// A walk for the reference: its entries have the range and the default of each key.
    pub(crate) fn survey(settings: Settings) -> Self {
        Self { is_survey: true, ..Self::over(settings) }
    }

    pub(crate) fn root(&mut self) -> Section<'_> {
        Section { walk: self, id: SectionId::ROOT }
    }

    /// The position of the entry of a key that was read.
    pub(crate) fn entry_position(&self, section: SectionId, name: &str) -> Option<usize> {
        // the last one is the key that is read now
        let positions = self.tree.entries(section).iter().rev();
        positions.copied().find(|at| self.entries[*at].path.name == name)
    }

    /// The entry of a key that was read.
    pub(crate) fn entry(&self, section: SectionId, name: &str) -> Option<&Entry> {
        self.entries.get(self.entry_position(section, name)?)
    }

    /// The setting of a key that was read.
    pub(crate) fn setting(&self, entry: &Entry) -> Option<&Setting> {
        self.settings.get(entry.setting?).map(|(_, setting)| setting)
    }
}
