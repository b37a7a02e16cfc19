//! The documentation of every key, made from the declarations that read them (G6).
//!
//! Two shapes: the table of `docs/configuration.md`, and `default.toml`, in which every key stands with its default and
//! its meaning. Buckets, and keys that setting would take out of play with others, are commented out there, so
//! the file as it is equals having no file.

use crate::Config;
use crate::form;
use crate::problem::Origin;
use crate::setting::{KeyPath, Raw, Setting, Settings};
use crate::walk::{Docs, Entry, Preset, Walk};

/// Stands for any bucket's name, or that of anything else that has names.
pub(crate) const NAME: &str = "NAME";
/// The sections whose sections have names.
pub(crate) const MAPS: [&str; 4] = ["api_keys", "buckets", "keys", "policies"];

/// The maps within what has a name.
const INNER_MAPS: [&[&str]; 2] =
    [&["buckets", NAME, "s3", "credentials"], &["buckets", NAME, "http", "credentials"]];

/// A walk in which one of everything with a name exists, so that its keys are visited.
fn survey() -> Walk {
    let one = |path: KeyPath| (path.child(NAME), Setting { raw: Raw::Empty, origin: Origin::Default });
    let maps = MAPS.iter().map(|map| KeyPath::new([*map]));
    let inner = INNER_MAPS.iter().map(|map| KeyPath::new(map.iter().copied()));
    let mut walk = Walk::over(maps.chain(inner).map(one).collect::<Settings>());
    let _ = Config::read(&mut walk.root());
    // no key of released builds
    walk.entries.retain(|entry| entry.path != KeyPath::new(["guards"]));
    walk
}

/// Whether a path is that of a section with a name, such as `buckets.photos`.
pub(crate) fn is_named_section(path: &KeyPath) -> bool {
    let maps = MAPS.iter().map(std::slice::from_ref).chain(INNER_MAPS);
    let is_in = |map: &[&str]| {
        let segments = path.segments();
        segments.len() == map.len() + 1
            && map.iter().zip(segments).all(|(known, given)| *known == NAME || known == given)
    };
    maps.into_iter().any(is_in)
}

/// Every documented key; what has a name is called NAME.
pub(crate) fn keys() -> Vec<KeyPath> {
    survey().entries.into_iter().map(|entry| entry.path).collect()
}

/// Whether a variable of this name holds a secret, which should not stay in the process's environment (C5).
pub fn is_secret_variable(name: &str) -> bool {
    let is_any = |segment: &str| segment.bytes().all(|byte| byte.is_ascii_uppercase());
    let spells = |entry: &Entry, path: &KeyPath| {
        let (known, given) = (entry.path.segments(), path.segments());
        known.len() == given.len() && known.iter().zip(given).all(|(key, name)| is_any(key) || key == name)
    };
    let path = KeyPath::of_variable(name);
    survey().entries.iter().any(|entry| entry.is_secret && spells(entry, &path))
}

/// The configuration table as Markdown: key, variable, default, what it accepts, what it means.
pub fn reference_table() -> String {
    let mut table =
        String::from("| key | environment variable | default | accepts | meaning |\n|---|---|---|---|---|\n");
    for Entry { path, docs, accepts, is_secret: _, preset } in survey().entries {
        let Preset { value, words } = preset;
        let default = words.map_or_else(|| format!("`{}`", value.unwrap_or_default()), str::to_owned);
        let variable = path.variable();
        let meaning = summary(docs);
        table.push_str(&format!("| `{path}` | `{variable}` | {default} | {accepts} | {meaning} |\n"));
    }
    table
}

/// How values are spelt, as Markdown.
pub fn reference_spellings() -> String {
    form::spellings()
}

/// The first paragraph of a doc comment on one line.
fn summary(docs: Docs) -> String {
    let lines = docs.iter().map(|line| line.trim()).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// The text of `default.toml`.
pub fn reference_file() -> String {
    let mut text = String::from(
        "# Every key of tidegate with its default. This file changes nothing: it is what holds without it.\n\
         # For keys behind `#`, the words in brackets say what holds while they are not set.\n\
         # Durations take units (500ms, 30s, 1m30s, 1h), sizes too (10M, 512Mi, 1.5GiB, 100MB); docs/configuration-guide.md lists them.\n\
         # Made from the code: cargo run -p tidegate-config --example reference file\n",
    );
    let walk = survey();
    for (section, docs) in &walk.sections {
        text.push('\n');
        let mark = if is_in_map(section) { "#" } else { "" };
        push_docs(&mut text, docs);
        text.push_str(&format!("{mark}[{section}]\n"));
        for entry in &walk.entries {
            if let Some((parent, name)) = entry.path.split_last()
                && parent == *section
            {
                push_docs(&mut text, entry.docs);
                text.push_str(&line(entry, name, mark));
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
    let value = entry.preset.value.as_deref().unwrap_or("\"\"");
    match entry.preset.words {
        None => format!("# accepts: {accepts}\n{mark}{name} = {value}\n"),
        Some(words) => format!("# accepts: {accepts}\n#{name} = {value} # [{words}]\n"),
    }
}

fn is_in_map(section: &KeyPath) -> bool {
    MAPS.iter().any(|map| section.is_within(&KeyPath::new([*map])))
}
