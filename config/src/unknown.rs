//! Finds settings that no key asked for.
//!
//! A setting that is ignored is worse than an error: its writer believes in it. Each gets the best guess at
//! what was meant, spelt the way its source spells keys.

use std::collections::BTreeSet;

use crate::hint;
use crate::problem::{Origin, Problem};
use crate::reference;
use crate::setting::{KeyPath, Raw, Setting};
use crate::source::FILE_VARIABLE;
use crate::walk::Walk;

/// A problem for each setting the walk did not ask for.
pub(crate) fn find(walk: &Walk) -> Vec<Problem> {
    let keys: BTreeSet<&KeyPath> = walk.entries.iter().map(|entry| &entry.path).collect();
    let mut candidates = None;
    let mut problems = Vec::new();
    for (path, setting) in &walk.settings {
        if keys.contains(path) {
            continue;
        }
        let is_section = reference::MAPS.iter().any(|map| *path == KeyPath::new([*map]))
            || reference::is_named_section(path)
            || walk.sections.iter().any(|(section, _)| section.is_within(path));
        let (message, hint) = if is_section {
            if setting.raw == Raw::Empty {
                continue;
            }
            let candidates = candidates.get_or_insert_with(reference::keys);
            ("is a section, not a value".to_owned(), underscores(path, setting, candidates))
        } else {
            let candidates = candidates.get_or_insert_with(reference::keys);
            ("unknown key".to_owned(), remedy(path, setting, candidates))
        };
        problems.push(Problem { key: path.to_string(), source: setting.origin.clone(), message, hint });
    }
    problems
}

fn remedy(path: &KeyPath, setting: &Setting, candidates: &[KeyPath]) -> Option<String> {
    if *path == KeyPath::new(["guards"]) {
        return Some("only builds with the cargo feature bench know it".to_owned());
    }
    if let Some(remedy) = not_a_key(path) {
        return Some(remedy);
    }
    let meant = |key: KeyPath| match &setting.origin {
        Origin::Variable(_) => format!("did you mean {}?", key.variable()),
        _ => format!("did you mean {key}?"),
    };
    underscores(path, setting, candidates).or_else(|| hint::for_key(path, candidates).map(meant))
}

/// What takes the place of a key at the top that is none: an argument, or the variable that names the file.
fn not_a_key(path: &KeyPath) -> Option<String> {
    let [name] = path.segments() else { return None };
    match name.as_str() {
        "strict" => Some("it is an argument: --strict".to_owned()),
        "config_file" | "config_path" | "conf" | "configuration" => {
            Some(format!("name the file with {FILE_VARIABLE} or the argument --config"))
        }
        _ => None,
    }
}

/// The variable that was meant where one has too few underscores.
fn underscores(path: &KeyPath, setting: &Setting, candidates: &[KeyPath]) -> Option<String> {
    let is_variable = matches!(setting.origin, Origin::Variable(_));
    let key = hint::for_underscores(path, candidates).filter(|_| is_variable)?;
    Some(format!("did you mean {}?", key.variable()))
}
