//! Finds settings without a key.
//!
//! An unknown setting is an error: if it were ignored, the user would rely on it. Each error has a guess at the intended key, in the
//! spelling of its source.

use crate::hint;
use crate::problem::{Origin, Problem};
use crate::reference;
use crate::schema::Walk;
use crate::setting::{KeyPath, Raw, Setting};
use crate::source::FILE_VARIABLE;

/// A problem for each setting that the walk did not read.
pub(crate) fn find(walk: &Walk) -> Vec<Problem> {
    let mut candidates = None;
    let mut problems = Vec::new();
    let mut is_read = vec![false; walk.settings.len()];
    walk.entries.iter().filter_map(|entry| entry.setting).for_each(|at| is_read[at] = true);
    for ((path, setting), _) in walk.settings.iter().zip(is_read).filter(|(_, is_read)| !is_read) {
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
        let (source, line) = (setting.origin.clone(), setting.line);
        problems.push(Problem { key: path.to_string(), source, line, message, hint });
    }
    problems
}

fn remedy(path: &KeyPath, setting: &Setting, candidates: &[KeyPath]) -> Option<String> {
    if *path == KeyPath::new(["guards"]) {
        return Some("only builds with the cargo feature bench have this key".to_owned());
    }
    if let Some(remedy) = not_a_key(path) {
        return Some(remedy);
    }
    let guess = |key: KeyPath| match &setting.origin {
        Origin::Variable(_) => format!("did you mean {}?", key.variable()),
        _ => format!("did you mean {key}?"),
    };
    underscores(path, setting, candidates).or_else(|| hint::for_key(path, candidates).map(guess))
}

/// The replacement of a top-level name that is not a key: an argument, or the variable with the path of the file.
fn not_a_key(path: &KeyPath) -> Option<String> {
    let [name] = path.segments() else { return None };
    match name.as_str() {
        "strict" => Some("use the argument --strict".to_owned()),
        "config_file" | "config_path" | "conf" | "configuration" => {
            Some(format!("set {FILE_VARIABLE} or the argument --config to the path of the file"))
        }
        _ => None,
    }
}

/// The intended variable, for a name with too few underscores.
fn underscores(path: &KeyPath, setting: &Setting, candidates: &[KeyPath]) -> Option<String> {
    let is_variable = matches!(setting.origin, Origin::Variable(_));
    let key = hint::for_underscores(path, candidates).filter(|_| is_variable)?;
    Some(format!("did you mean {}?", key.variable()))
}
