//! The state of one walk over the keys: the settings that are left, what was read, and the problems.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;

use crate::entry::{Docs, Entry};
use crate::problem::Problem;
use crate::schema::Section;
use crate::setting::{KeyPath, Settings};

/// The state of one walk.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) settings: Settings,
    pub(crate) entries: Vec<Entry>,
    pub(crate) sections: Vec<(KeyPath, Docs)>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// keys, and sections with all their keys, of which a check asked whether they are set
    pub(crate) asked: RefCell<BTreeSet<KeyPath>>,
    /// the position of the last entry with a recorded value
    pub(crate) last_put: usize,
    /// the positions of the entries in the order of their paths, after all keys were read
    positions: OnceCell<Vec<usize>>,
}

impl Walk {
    pub(crate) fn over(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(crate) fn root(&mut self) -> Section<'_> {
        Section { walk: self, path: KeyPath::default() }
    }

    /// The entry of a key, after all keys were read.
    pub(crate) fn entry(&self, path: &KeyPath) -> Option<&Entry> {
        let entries = &self.entries;
        let positions = self.positions.get_or_init(|| {
            let mut positions: Vec<usize> = (0..entries.len()).collect();
            positions.sort_by(|one, other| entries[*one].path.cmp(&entries[*other].path));
            positions
        });
        let at = positions.binary_search_by(|at| entries[*at].path.cmp(path)).ok()?;
        entries.get(positions[at])
    }

    /// Whether setting this key could change anything but its own value, because a check asked whether it is set.
    pub(crate) fn is_presence_relevant(&self, path: &KeyPath) -> bool {
        let asked = self.asked.borrow();
        (1..=path.segments().len()).any(|len| asked.contains(&path.segments()[..len]))
    }
}
