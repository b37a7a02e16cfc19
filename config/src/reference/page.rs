//! `docs/configuration.md`: one table per group of keys, with longer explanations below it.
//!
//! A key that is the same for s3 and http buckets is listed once, with UPSTREAM for the kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::groups::{GROUPS, Group, of_key};
use super::survey;
use crate::restart::documented_change;
use crate::schema::{Docs, Entry};
use crate::setting::KeyPath;
use crate::value_type;

const UPSTREAM: &str = "UPSTREAM";
/// Maximum length of a line that is not a row of a table, in characters.
const LINE_CHARS_MAX: usize = 140;

const INTRO: &str = "\
# Configuration

<!-- Generated from the code: cargo run -p tidegate-config --example reference > docs/configuration.md -->

All keys of tidegate. [config/default.toml](../config/default.toml) has the same keys as a file.

**Sources.** Later ones have precedence, key by key: the defaults, a TOML or YAML file (`--config FILE` or `TIDEGATE_CONFIG`), environment
variables. `tidegate check` checks a configuration and names every error with its key and source.

**Effective values.** `tidegate config` prints every key with its value, and with `--origin` also where the value is set. `GET /config` of
the admin listener has the values of the running process. See [operations](operations.md#the-effective-configuration).

**Environment variables.** The variable of a key is `TIDEGATE_` and the key in upper case, with two underscores for each dot:
`server.port` is `TIDEGATE_SERVER__PORT`. Commas separate the items of a list.

**Changes.** The column `change` has what a change of the key takes: `reload` is SIGHUP or `POST /reload`, `restart` is a new start. See
[reloads](operations.md#reload-of-the-configuration).

**Placeholders.** `NAME` is the name of a bucket, a client key, an API key, a policy or a credential. `UPSTREAM` stands for `s3` or `http`,
the kind of the bucket: the key `buckets.NAME.UPSTREAM.timeout` of an s3 bucket `photos` is `buckets.photos.s3.timeout`.

";

/// One key of the page.
pub(crate) struct Row {
    pub(crate) key: String,
    default: String,
    accepts: String,
    change: &'static str,
    docs: Docs,
}

/// The text of `docs/configuration.md`.
pub fn reference_page() -> String {
    let mut page = String::from(INTRO);
    page.push_str("## Contents\n\n- [Values and units](#values-and-units)\n");
    for Group { title, intro, .. } in &GROUPS {
        let anchor = title.to_lowercase().replace(' ', "-");
        push_wrapped(&mut page, &format!("- [{title}](#{anchor}): {intro}"));
    }
    page.push_str(&format!("\n## Values and units\n\n{}", value_type::spellings()));
    page.push_str("\nUnits of sizes are accepted in any case, units of durations in lower case.\n");
    let (rows, sections) = (rows(), sections());
    for (at, Group { title, intro, members }) in GROUPS.iter().enumerate() {
        let place = |row: &&Row| of_key(&row.key).filter(|(group, _)| *group == at);
        let mut own: Vec<&Row> = rows.iter().filter(|row| place(row).is_some()).collect();
        own.sort_by_key(|row| of_key(&row.key).map_or(members.len(), |(_, member)| member));
        page.push_str(&format!("\n## {title}\n\n{intro}\n\n"));
        push_sections(&mut page, &sections, at, &rows);
        push_group(&mut page, &own);
    }
    page
}

/// The sections with their documentation, in the order of their declarations; those of both kinds of buckets once.
fn sections() -> Vec<(String, String)> {
    let all = survey().sections;
    let key_of = |path: &KeyPath, docs: Docs| {
        let shared = shared_of(path)?;
        let is_same = |(other, other_docs): &&(Arc<KeyPath>, Docs)| {
            **other != *path && shared_of(other).as_ref() == Some(&shared) && *other_docs == docs
        };
        all.iter().any(|section| is_same(&section)).then_some(shared)
    };
    let mut sections: Vec<(String, String)> = Vec::new();
    for (path, docs) in &all {
        let key = key_of(path, docs).as_ref().unwrap_or(&**path).to_string();
        if !sections.iter().any(|(known, _)| *known == key) {
            sections.push((key, paragraphs(docs).0));
        }
    }
    sections
}

/// Lists the subsections with all their keys in this group.
fn push_sections(page: &mut String, sections: &[(String, String)], group: usize, rows: &[Row]) {
    let is_within =
        |row: &&Row, section: &str| row.key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    let is_of_group = |row: &Row| of_key(&row.key).is_some_and(|(of_row, _)| of_row == group);
    let own: Vec<_> = sections
        .iter()
        .filter(|(section, _)| {
            let mut within = rows.iter().filter(|row| is_within(row, section)).peekable();
            section.contains('.') && within.peek().is_some() && within.all(is_of_group)
        })
        .collect();
    for (section, summary) in &own {
        push_wrapped(page, &format!("- `{section}`: {summary}"));
    }
    if !own.is_empty() {
        page.push('\n');
    }
}

/// All keys, in the order of their declarations.
pub(crate) fn rows() -> Vec<Row> {
    let entries = survey().entries;
    let shared: BTreeSet<KeyPath> = entries.iter().filter_map(|entry| shared_path(entry, &entries)).collect();
    let mut seen = BTreeSet::new();
    let mut rows = Vec::new();
    for Entry { path, docs, accepts, default, .. } in entries {
        let path = path.whole();
        let path = shared_of(&path).filter(|shared_path| shared.contains(shared_path)).unwrap_or(path);
        if seen.insert(path.clone()) {
            let value = || format!("`{}`", default.value.unwrap_or_default());
            let default = default.words.map_or_else(value, str::to_owned);
            let key = path.to_string();
            rows.push(Row { change: documented_change(&key), key, default, accepts, docs });
        }
    }
    rows
}

/// The path with UPSTREAM for the kind of a bucket; none for other paths.
fn shared_of(path: &KeyPath) -> Option<KeyPath> {
    match path.segments() {
        [buckets, name, kind, rest @ ..] if buckets == "buckets" && (kind == "s3" || kind == "http") => {
            let head = [buckets.as_str(), name, UPSTREAM];
            Some(KeyPath::new(head.into_iter().chain(rest.iter().map(String::as_str))))
        }
        _ => None,
    }
}

/// The path with UPSTREAM, if the key is the same for both kinds.
fn shared_path(entry: &Entry, entries: &[Entry]) -> Option<KeyPath> {
    let path = shared_of(&entry.path.whole())?;
    let is_same = |other: &&Entry| {
        other.path.section != entry.path.section
            && shared_of(&other.path.whole()).as_ref() == Some(&path)
            && (other.docs, &other.accepts, &other.default) == (entry.docs, &entry.accepts, &entry.default)
    };
    entries.iter().find(is_same).map(|_| path)
}

fn push_group(page: &mut String, rows: &[&Row]) {
    page.push_str("| key | default | accepts | change | meaning |\n|---|---|---|---|---|\n");
    for Row { key, default, accepts, change, docs } in rows {
        let (summary, _) = paragraphs(docs);
        page.push_str(&format!("| `{key}` | {default} | {accepts} | {change} | {summary} |\n"));
    }
    let mut notes: Vec<(Vec<&str>, String)> = Vec::new();
    for Row { key, docs, .. } in rows {
        let (_, details) = paragraphs(docs);
        match notes.iter_mut().find(|(_, text)| *text == details) {
            Some((keys, _)) => keys.push(key),
            None if details.is_empty() => {}
            None => notes.push((vec![key], details)),
        }
    }
    if !notes.is_empty() {
        page.push('\n');
    }
    for (keys, details) in notes {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        push_wrapped(page, &format!("- {}: {details}", keys.join(", ")));
    }
}

/// The first paragraph of a doc comment, and the rest of it.
pub(crate) fn paragraphs(docs: Docs) -> (String, String) {
    let join = |lines: &[&str]| {
        let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    };
    let end = docs.iter().position(|line| line.trim().is_empty()).unwrap_or(docs.len());
    (join(&docs[..end]), join(&docs[end..]))
}

/// Adds an item of a list, wrapped at the maximum length of a line.
fn push_wrapped(page: &mut String, item: &str) {
    let mut length = 0;
    for word in item.split(' ') {
        let chars = word.chars().count();
        if length > 0 && length + 1 + chars > LINE_CHARS_MAX {
            page.push_str("\n  ");
            length = 2;
        } else if length > 0 {
            page.push(' ');
            length += 1;
        }
        page.push_str(word);
        length += chars;
    }
    page.push('\n');
}
