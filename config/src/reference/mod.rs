//! The documentation of all keys, generated from their declarations (G6).
//!
//! `page` writes `docs/configuration.md`. This file writes `default.toml`, which has every key with its default and its meaning. Buckets
//! are commented out there, as are keys that contradict others if they are set, so loading the file gives the defaults.

pub(crate) mod groups;
pub(crate) mod page;
pub(crate) mod template;

use std::sync::OnceLock;

use crate::Config;
use crate::problem::Origin;
use crate::schema::{Docs, Entry, Walk};
use crate::setting::{KeyPath, Raw, Setting, Settings};
use crate::value_type;

pub use page::reference_page;

/// Stands for the name of a bucket, a key, a policy or a credential.
pub(crate) const NAME: &str = "NAME";
/// The sections with named subsections.
pub(crate) const MAPS: [&str; 4] = ["api_keys", "buckets", "keys", "policies"];

/// The sections with named subsections within a named subsection.
const INNER_MAPS: [&[&str]; 2] =
    [&["buckets", NAME, "s3", "credentials"], &["buckets", NAME, "http", "credentials"]];

/// A walk over a configuration with one entry in each map, so that it visits all keys.
pub(crate) fn survey() -> Walk {
    let one =
        |path: KeyPath| (path.child(NAME), Setting { raw: Raw::Empty, origin: Origin::Default, line: None });
    let maps = MAPS.iter().map(|map| KeyPath::new([*map]));
    let inner = INNER_MAPS.iter().map(|map| KeyPath::new(map.iter().copied()));
    let mut walk = Walk::survey(maps.chain(inner).map(one).collect::<Settings>());
    let _ = Config::read(&mut walk.root());
    // released builds do not have this key
    walk.entries.retain(|entry| entry.path.to_string() != "guards");
    walk
}

/// Whether a path is that of a named section, such as `buckets.photos`.
pub(crate) fn is_named_section(path: &KeyPath) -> bool {
    let maps = MAPS.iter().map(std::slice::from_ref).chain(INNER_MAPS);
    let is_in = |map: &[&str]| {
        let segments = path.segments();
        segments.len() == map.len() + 1
            && map.iter().zip(segments).all(|(known, given)| *known == NAME || known == given)
    };
    maps.into_iter().any(is_in)
}

/// All documented keys, with NAME for names.
pub(crate) fn keys() -> Vec<KeyPath> {
    survey().entries.iter().map(|entry| entry.path.whole()).collect()
}

/// Whether a variable of this name holds a secret, which must be removed from the environment of the process (C5).
pub fn is_secret_variable(name: &str) -> bool {
    // one survey for all variables
    static SECRETS: OnceLock<Vec<KeyPath>> = OnceLock::new();
    let secrets = SECRETS.get_or_init(|| {
        let entries = survey().entries.into_iter();
        entries.filter(|entry| entry.is_secret).map(|entry| entry.path.whole()).collect()
    });
    let is_any = |segment: &str| segment.bytes().all(|byte| byte.is_ascii_uppercase());
    let matches = |secret: &KeyPath, path: &KeyPath| {
        let (known, given) = (secret.segments(), path.segments());
        known.len() == given.len() && known.iter().zip(given).all(|(key, name)| is_any(key) || key == name)
    };
    let path = KeyPath::of_variable(name);
    secrets.iter().any(|secret| matches(secret, &path))
}

/// The spelling of values, as a Markdown table.
pub fn reference_spellings() -> String {
    value_type::spellings()
}

/// The text of `default.toml`.
pub fn reference_file() -> String {
    let mut text = String::from(
        "# All keys of tidegate with their defaults. Loading this file changes nothing.\n\
         # A key behind `#` has no fixed default; the text in brackets describes the behaviour while it is not set.\n\
         # Durations and sizes have units (500ms, 30s, 1m30s, 1h; 10M, 512Mi, 1.5GiB, 100MB): see docs/configuration.md.\n\
         # Generated from the code: cargo run -p tidegate-config --example reference file > config/default.toml\n",
    );
    let walk = survey();
    for (section, docs) in &walk.sections {
        text.push('\n');
        let mark = if is_in_map(section) { "#" } else { "" };
        push_docs(&mut text, docs);
        text.push_str(&format!("{mark}[{section}]\n"));
        for entry in &walk.entries {
            if entry.path.section == *section {
                push_docs(&mut text, entry.docs);
                text.push_str(&line(entry, entry.path.name, mark));
            }
        }
    }
    text
}

fn push_docs(text: &mut String, docs: Docs) {
    for line in docs {
        text.push_str(&format!("#{line}\n"));
    }
}

fn line(entry: &Entry, name: &str, mark: &str) -> String {
    let accepts = &entry.accepts;
    let value = entry.default.value.as_deref().unwrap_or("\"\"");
    match entry.default.words {
        None => format!("# accepts: {accepts}\n{mark}{name} = {value}\n"),
        Some(words) => format!("# accepts: {accepts}\n#{name} = {value} # [{words}]\n"),
    }
}

fn is_in_map(section: &KeyPath) -> bool {
    MAPS.iter().any(|map| section.is_within(&KeyPath::new([*map])))
}
