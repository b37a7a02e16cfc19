//! The documentation is the code's (G6).

use std::collections::BTreeSet;

use super::from_toml;
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

/// Takes the mark off keys and sections; a comment's mark is followed by a blank.
fn uncommented(text: &str) -> String {
    let is_key = |line: &str| line.len() > 1 && !line.starts_with(' ');
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// The pages with examples of configurations.
const PAGES: [&str; 4] = [
    include_str!("../../../README.md"),
    include_str!("../../../docs/authentication.md"),
    include_str!("../../../docs/configuration-guide.md"),
    include_str!("../../../docs/operations.md"),
];

/// The blocks of TOML in the documents.
fn examples() -> impl Iterator<Item = &'static str> {
    let blocks = |page: &'static str| page.split("```toml\n").skip(1);
    PAGES.into_iter().flat_map(blocks).filter_map(|rest| rest.split("```").next())
}

/// The variables with secrets that the comments of an example name.
fn secrets_of(example: &str) -> Vec<&str> {
    let words = example.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("TIDEGATE_")).collect()
}

/// G6, G12: the documents' examples with buckets are sound and give no warning
#[test]
fn the_examples_of_the_documents_are_sound() {
    let path = std::env::temp_dir().join(format!("tidegate-config-{}-example", std::process::id()));
    std::fs::write(&path, "fedcba9876543210").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let loaded: Vec<_> = examples()
        .filter(|example| example.contains("[buckets."))
        .map(|example| {
            let text = example.replace("\"/run/secrets/second\"", &format!("{path:?}"));
            let secrets = secrets_of(example).into_iter().map(|name| (name, "0123456789abcdef"));
            load_with_warnings(Sources::default().text("t.toml", text).environment(secrets))
        })
        .collect();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(loaded.len(), 5);
    for loaded in loaded {
        let warnings: Vec<_> = loaded.unwrap().warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [""; 0]);
    }
}

/// G6
#[test]
fn the_reference_file_is_made_from_the_code() {
    let made = reference::reference_file();
    let differing = FILE.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert_eq!(differing, None, "run the command in the file's head");
    assert_eq!(FILE, made);
}

/// G6
#[test]
fn the_reference_file_changes_nothing() {
    assert_eq!(from_toml(FILE).unwrap(), Config::default());
}

/// G6
#[test]
fn every_key_stands_in_the_reference_file_and_no_other() {
    let known: BTreeSet<_> = reference::keys().iter().map(ToString::to_string).collect();
    assert_eq!(keys_of(&uncommented(FILE)), known);
    assert!(known.len() > 70, "{}", known.len());
}

/// G6
#[test]
fn every_key_of_the_reference_file_is_commented() {
    let lines: Vec<_> = FILE.lines().collect();
    let is_key = |line: &str| line.contains(" = ") && !line.starts_with("# ");
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_key(line)) {
        let above: Vec<_> = lines[..at].iter().rev().take_while(|line| line.starts_with("# ")).collect();
        assert!(above.len() >= 2, "{line}");
        assert!(above[0].starts_with("# accepts: "), "{line}");
    }
}

/// G6
#[test]
fn the_table_has_a_full_row_for_every_key() {
    let table = reference::reference_table();
    let rows: Vec<Vec<&str>> =
        table.lines().skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert_eq!(rows.len(), reference::keys().len());
    for row in &rows {
        assert!(row.len() == 5 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
    let port = rows.iter().find(|row| row[0] == "`server.port`").unwrap();
    assert_eq!(port[1..4], ["`TIDEGATE_SERVER__PORT`", "`8080`", "0–65535"]);
}

/// G1: every key that counts time takes a unit, and every key that counts bytes
#[test]
fn keys_of_time_and_size_take_units() {
    let times = ["_seconds", "_ms", "timeout", "_interval", "keep_alive", "_grace", "ttl"];
    let sizes = ["_size", "_bytes", "_buffer", "_rate", "buffer_per_connection"];
    let no_bytes = ["connection_pool.size"];
    for line in reference::reference_table().lines().skip(2) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let (key, accepts) = (cells[0].trim_start_matches("| ").trim_matches('`'), cells[3]);
        let is_any = |ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
        if is_any(&times) {
            assert!(accepts.ends_with(" s") || accepts.ends_with(" ms"), "{key} accepts {accepts}");
        }
        if is_any(&sizes) && !is_any(&no_bytes) {
            assert!(accepts.starts_with("size, "), "{key} accepts {accepts}");
        }
    }
}
