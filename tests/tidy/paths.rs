//! File names in comments and documents: each file exists.
//!
//! Checked are Rust and Python files that are named in backquotes. A name with a folder (`http/proxy.rs`) is the end of a
//! path. A comment outside `tests/` means no file of `tests/`, unless the name begins with that folder. A name without a
//! folder means in a comment a file beside the commenting one or in a folder below, and in a document any file.

use super::sources::{Source, all, without_comment};

const SUFFIXES: [&str; 2] = [".rs", ".py"];

/// A file, and a name in it that is not a file of the repository or not a single one.
const OTHER_FILES: [(&str, &str); 5] = [
    // The test suite of Ceph.
    ("docs/s3-compatibility.md", "test_headers.py"),
    ("docs/s3-compatibility.md", "test_s3.py"),
    // Files that each component has.
    ("tests/tidy/mod.rs", "actor.rs"),
    ("tests/tidy/mod.rs", "handle.rs"),
    ("tests/tidy/mod.rs", "metrics.rs"),
];
/// This file has names of no files as samples.
const OWN_PATH: &str = "tests/tidy/paths.rs";

fn paths(sources: &[Source]) -> Vec<&str> {
    sources.iter().map(|source| source.path.as_str()).collect()
}

fn is_file_name(text: &str) -> bool {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || ['_', '-', '.', '/'].contains(&c);
    SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) && text.chars().all(is_of_path)
}

/// The file names in the comments of a Rust file or in a document, with the numbers of their lines.
fn file_names(source: &Source) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    if !source.is_rust() && !source.path.ends_with(".md") {
        return names;
    }
    for (at, line) in source.text.lines().enumerate() {
        let prose = if source.is_rust() { &line[without_comment(line).len()..] } else { line };
        // All parts between two backquotes: a span of code may begin in the line above.
        let parts: Vec<&str> = prose.split('`').collect();
        let enclosed = parts.get(1..parts.len() - 1).unwrap_or_default();
        names.extend(enclosed.iter().filter(|part| is_file_name(part)).map(|part| (at + 1, *part)));
    }
    names
}

/// Whether a file has the name that this source uses.
fn exists(source: &Source, name: &str, paths: &[&str]) -> bool {
    let end = format!("/{name}");
    let mut named = paths.iter().filter(|path| **path == name || path.ends_with(end.as_str()));
    if !source.is_rust() {
        return named.next().is_some();
    }
    if name.contains('/') {
        let may_be_test = source.path.starts_with("tests/") || name.starts_with("tests/");
        return named.any(|path| may_be_test || !path.starts_with("tests/"));
    }
    let folder = source.path.strip_suffix(source.name()).unwrap_or_default();
    named.any(|path| path.starts_with(folder))
}

#[test]
fn every_named_file_exists() {
    let sources = all();
    let paths = paths(&sources);
    let (mut checked, mut wrong) = (0, Vec::new());
    for source in sources.iter().filter(|source| source.path != OWN_PATH) {
        for (line, name) in file_names(source) {
            checked += 1;
            if !OTHER_FILES.contains(&(source.path.as_str(), name)) && !exists(source, name, &paths) {
                wrong.push(format!("{}:{line}: {name}", source.path));
            }
        }
    }
    assert!(checked > 400, "only {checked} names are found: the scan is wrong");
    assert!(
        wrong.is_empty(),
        "no such files: {wrong:#?}\n-> follow the file, or put the end of its path in front of the name"
    );
}

/// The list of exceptions has only needed entries, so it can only shrink.
#[test]
fn every_other_file_is_still_named() {
    let sources = all();
    let paths = paths(&sources);
    for (path, name) in OTHER_FILES {
        let source = sources.iter().find(|source| source.path == path);
        let is_needed = source.is_some_and(|source| {
            let names = file_names(source);
            names.iter().any(|(_, named)| *named == name) && !exists(source, name, &paths)
        });
        assert!(is_needed, "{path} does not name {name}, or the file exists: remove it from OTHER_FILES");
    }
}

/// The scan finds its samples: otherwise every file would pass.
#[test]
fn names_of_no_files_are_found() {
    let missing = |path: &str, text: &str| {
        let paths = ["src/a/b.rs", "src/a/c/d.rs", "tests/e/f.rs"];
        let source = Source::sample(path, text);
        let names = file_names(&source).into_iter().filter(|(_, name)| !exists(&source, name, &paths));
        names.map(|(line, name)| format!("{line}: {name}")).collect::<Vec<String>>()
    };
    let text =
        "//! `b.rs`, [`c/d.rs`], `a b.rs`, b.rs\n\"`g.rs`\" // `h.rs` `d.rs`\n/// `e/f.rs`, `tests/e/f.rs`\n";
    assert_eq!(missing("src/a/mod.rs", text), ["2: h.rs", "3: e/f.rs"]);
    assert_eq!(missing("src/a/c/mod.rs", "// `b.rs`, `a/b.rs`, `b.py`"), ["1: b.rs", "1: b.py"]);
    assert_eq!(missing("docs/x.md", "`f.rs`\nb`, `e/f.rs`, `a/f.rs\n`b.rs` `g.rs`"), ["3: g.rs"]);
    assert!(missing("tests/x.rs", "// `e/f.rs` `f.rs`").is_empty());
    assert!(missing("x.toml", "# `g.rs`").is_empty());
}
