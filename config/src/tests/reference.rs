//! The generated documentation (G6), and the examples of the other documents.

use std::collections::BTreeSet;

use super::{from_toml, toml_examples};
use crate::reference::groups::{GROUPS, of_key};
use crate::reference::page::rows;
use crate::{Config, Sources, load_with_warnings, reference};

const FILE: &str = include_str!("../../default.toml");

/// The dotted keys of a TOML document, leaves only.
fn keys_of(text: &str) -> BTreeSet<String> {
    fn collect(prefix: &str, table: &toml::Table, keys: &mut BTreeSet<String>) {
        for (name, value) in table {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(table) => collect(&path, table, keys),
                _ => drop(keys.insert(path)),
            }
        }
    }
    let mut keys = BTreeSet::new();
    collect("", &toml::from_str(text).unwrap(), &mut keys);
    keys
}

/// Removes the `#` of keys and sections; a comment has a space after its `#`.
fn uncommented(text: &str) -> String {
    let is_key = |line: &str| line.len() > 1 && !line.starts_with(' ');
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// The variables with secrets in the comments of an example.
fn secrets_of(example: &str) -> Vec<&str> {
    let words = example.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("TIDEGATE_")).collect()
}

/// The number of examples in the documents that configure a bucket.
const EXAMPLES: usize = 5;

/// G6, G12: the examples with buckets in the documents are valid and cause no warning
#[test]
fn the_examples_of_the_documents_are_valid() {
    let path = std::env::temp_dir().join(format!("tidegate-config-{}-example", std::process::id()));
    std::fs::write(&path, "fedcba9876543210").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let examples = toml_examples();
    let loaded: Vec<_> = examples
        .iter()
        .filter(|example| example.contains("[buckets."))
        .map(|example| {
            let text = example.replace("\"/run/secrets/second\"", &format!("{path:?}"));
            let secrets = secrets_of(example).into_iter().map(|name| (name, "0123456789abcdef"));
            load_with_warnings(Sources::default().text("t.toml", text).environment(secrets))
        })
        .collect();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(loaded.len(), EXAMPLES, "examples that configure a bucket");
    for loaded in loaded {
        let warnings: Vec<_> = loaded.unwrap().warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [""; 0]);
    }
}

/// G6
#[test]
fn the_reference_file_is_generated_from_the_code() {
    let generated = reference::reference_file();
    let differing = FILE.lines().zip(generated.lines()).find(|(old, new)| old != new);
    let remedy = "run: cargo run -p tidegate-config --example reference file > config/default.toml";
    assert!(FILE == generated, "config/default.toml is out of date, first at {differing:?}\n-> {remedy}");
}

/// G6
#[test]
fn the_reference_file_changes_nothing() {
    assert_eq!(from_toml(FILE).unwrap(), Config::default());
}

/// G6
#[test]
fn the_reference_file_has_every_key_and_no_other() {
    let known: BTreeSet<_> = reference::keys().iter().map(ToString::to_string).collect();
    assert_eq!(keys_of(&uncommented(FILE)), known);
    assert!(known.len() > 70, "{}", known.len());
}

/// G6
#[test]
fn every_key_of_the_reference_file_has_a_comment() {
    let lines: Vec<_> = FILE.lines().collect();
    let is_key = |line: &str| line.contains(" = ") && !line.starts_with("# ");
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_key(line)) {
        let above: Vec<_> = lines[..at].iter().rev().take_while(|line| line.starts_with("# ")).collect();
        assert!(above.len() >= 2, "{line}");
        assert!(above[0].starts_with("# accepts: "), "{line}");
    }
}

/// The cells of the rows of the page with a key: key, default, accepted values, change, meaning.
fn cells(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains('.'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// G6: the page has one full row for every key, and keys of both kinds of buckets once
#[test]
fn the_page_has_a_full_row_for_every_key() {
    let page = reference::reference_page();
    let rows = cells(&page);
    for row in &rows {
        assert!(row.len() == 5 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
    let names: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(names.len(), rows.len(), "a key is listed twice");
    for key in reference::keys().iter().map(ToString::to_string) {
        let shared = key.replace("NAME.s3.", "NAME.UPSTREAM.").replace("NAME.http.", "NAME.UPSTREAM.");
        assert!(names.contains(&*key) != (shared != key && names.contains(&*shared)), "{key}");
    }
    let port = rows.iter().find(|row| row[0] == "`server.port`").unwrap();
    assert_eq!(port[1..4], ["`8080`", "0–65535", "restart"]);
    for key in ["buckets.NAME.UPSTREAM.endpoints", "buckets.NAME.s3.region", "keys.NAME.rate_limit.burst"] {
        assert!(names.contains(key), "{key}");
    }
}

/// G6: every key has a group, every member of a group has a key, and the contents link to every group
#[test]
fn every_key_has_a_group() {
    let places: BTreeSet<(usize, usize)> = rows()
        .iter()
        .map(|row| of_key(&row.key).unwrap_or_else(|| panic!("no group: {}", row.key)))
        .collect();
    let page = reference::reference_page();
    for (at, group) in GROUPS.iter().enumerate() {
        for (position, member) in group.members.iter().enumerate() {
            assert!(places.contains(&(at, position)), "{member} has no key");
        }
        let anchor = group.title.to_lowercase().replace(' ', "-");
        assert!(page.contains(&format!("[{}](#{anchor})", group.title)), "{}", group.title);
        assert!(page.contains(&format!("\n## {}\n", group.title)), "{}", group.title);
    }
}

/// Long explanations are below the tables, so that the page and the file fit a screen
#[test]
fn lines_of_the_reference_are_short() {
    for line in reference::reference_page().lines().chain(reference::reference_file().lines()) {
        let chars_max = if line.starts_with('|') { 300 } else { 140 };
        assert!(line.chars().count() <= chars_max, "{line}");
    }
}

/// G1: every key of a duration accepts a unit, and every key of a size
#[test]
fn keys_of_durations_and_sizes_accept_units() {
    let times = ["_seconds", "_ms", "timeout", "_interval", "keep_alive", "_grace", "ttl"];
    let sizes = ["_size", "_bytes", "_buffer", "_rate", "buffer_per_connection"];
    let no_bytes = ["connection_pool.size"];
    let page = reference::reference_page();
    for row in cells(&page) {
        let (key, accepts) = (row[0].trim_matches('`'), row[2]);
        let is_any = |ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
        if is_any(&times) {
            assert!(accepts.ends_with(" s") || accepts.ends_with(" ms"), "{key} accepts {accepts}");
        }
        if is_any(&sizes) && !is_any(&no_bytes) {
            assert!(accepts.starts_with("size, "), "{key} accepts {accepts}");
        }
    }
}
