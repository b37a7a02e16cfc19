//! The keys of the reference by section and name: what the keys of all buckets have in common is made once.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::{MAPS, NAME, survey};
use crate::entry::{Entry, EntryPath};
use crate::setting::KeyPath;

/// The keys of a section of the reference by name.
pub(crate) type TemplateSection = BTreeMap<&'static str, Entry>;

/// The sections of the reference by path.
fn sections() -> &'static BTreeMap<KeyPath, TemplateSection> {
    static SECTIONS: OnceLock<BTreeMap<KeyPath, TemplateSection>> = OnceLock::new();
    SECTIONS.get_or_init(|| {
        let mut sections: BTreeMap<KeyPath, TemplateSection> = BTreeMap::new();
        for entry in survey().entries {
            let EntryPath { section, name } = &entry.path;
            match sections.get_mut(&**section) {
                Some(keys) => keys.insert(name, entry),
                None => sections.entry(KeyPath::clone(section)).or_default().insert(name, entry),
            };
        }
        sections
    })
}

/// The positions of names in the path of a section or key.
fn name_positions(segments: &[String]) -> &'static [usize] {
    match segments {
        [buckets, _, _, map, _, ..] if buckets == "buckets" && map == "credentials" => &[1, 4],
        [map, _, ..] if MAPS.contains(&map.as_str()) => &[1],
        _ => &[],
    }
}

/// The names in the path of a section: of a bucket or key, and of a credential of the bucket.
pub(crate) fn names(section: &KeyPath) -> impl Iterator<Item = &str> {
    let segments = section.segments();
    name_positions(segments).iter().filter_map(|at| segments.get(*at)).map(String::as_str)
}

/// A path with other names.
pub(crate) fn renamed<'n>(path: &KeyPath, names: impl IntoIterator<Item = &'n str>) -> KeyPath {
    let mut segments = path.segments().to_vec();
    for (position, name) in name_positions(path.segments()).iter().zip(names) {
        name.clone_into(&mut segments[*position]);
    }
    KeyPath::new(segments)
}

/// The section of the reference for this section; none if no release has it.
pub(crate) fn template_section(section: &KeyPath) -> Option<&'static TemplateSection> {
    sections().get(&renamed(section, [NAME, NAME]))
}

/// The key of the reference for this key; none if no release has it.
pub(crate) fn template(path: &EntryPath) -> Option<&'static Entry> {
    template_section(&path.section)?.get(path.name)
}
