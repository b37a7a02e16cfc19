//! The form of the documents: lengths of lines and rows, links and their anchors.
//!
//! A link is checked if its target is a file of the repository. Other sites are not checked: tests have no network.

use std::collections::BTreeSet;
use std::path::Path;

use super::sources::{Source, all, read};

const LINE_MAX: usize = 140;
const ROW_MAX: usize = 300;
const README_LINES_MAX: usize = 150;

/// Every page of the repository.
fn pages() -> Vec<Source> {
    all().into_iter().filter(|source| source.path.ends_with(".md")).collect()
}

/// Lines that are too long, numbered from 1.
fn long_lines(text: &str) -> Vec<usize> {
    let is_long = |line: &str| {
        let max = if line.starts_with('|') { ROW_MAX } else { LINE_MAX };
        line.chars().count() > max
    };
    text.lines().enumerate().filter(|(_, line)| is_long(line)).map(|(at, _)| at + 1).collect()
}

#[test]
fn lines_and_rows_of_documents_are_short() {
    let mut long = Vec::new();
    for page in pages() {
        long.extend(long_lines(&page.text).into_iter().map(|line| format!("{}:{line}", page.path)));
    }
    assert!(
        long.is_empty(),
        "{long:#?}\n-> at most {LINE_MAX} characters in a line and {ROW_MAX} in a row of a table; \
         move the rest of a cell below the table"
    );
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines: move a section to docs/");
}

/// The text without code: blocks between fences, indented blocks, and spans in backquotes.
fn prose(text: &str) -> String {
    let (mut is_fenced, mut may_be_code) = (false, true);
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_code = is_fenced || may_be_code && line.starts_with("    ");
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_code {
            // an indented line continues the paragraph above, if there is one
            may_be_code = line.is_empty();
            lines.push(line);
        }
    }
    lines.join("\n").split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Targets of the links in a text. A link by reference (`[text][name]`) without its definition has the target `name`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let named = prose.split("][").skip(1).filter_map(|rest| rest.split_once(']'));
    let definition = |name: &str| prose.lines().find_map(|line| line.strip_prefix(&format!("[{name}]: ")));
    let named = named.map(|(name, _)| definition(name).unwrap_or(name));
    inline.map(|(target, _)| target).chain(named).map(str::to_owned).collect()
}

/// The anchors of a page's headings, as GitHub and docs.rs generate them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut is_fenced = false;
    for line in text.lines() {
        is_fenced ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if is_fenced || title == line || !title.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
        let anchor: String = title.trim().to_lowercase().chars().filter(kept).collect();
        let anchor = anchor.replace(' ', "-");
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// The reason why a link of a page is broken.
fn broken(page: &Source, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join(&page.path).parent().map(Path::to_path_buf).unwrap_or_default();
    let target = if file.is_empty() { root.join(&page.path) } else { folder.join(file) };
    if !target.exists() {
        return Some(format!("{}: {link}: no such file", page.path));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(&target).unwrap_or_default();
    (!anchors(&text).contains(anchor)).then(|| format!("{}: {link}: no such heading", page.path))
}

#[test]
fn every_link_of_a_document_resolves() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in pages() {
        let links = links(&page.text);
        checked += links.len();
        wrong.extend(links.iter().filter_map(|link| broken(&page, link)));
    }
    assert!(checked > 50, "only {checked} links are found: the scan is wrong");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every page of the manual is linked from the README.
#[test]
fn the_readme_links_every_page_of_the_manual() {
    let linked = links(&read("README.md"));
    let manual = pages().into_iter().map(|page| page.path);
    let is_manual = |path: &String| path.strip_prefix("docs/").is_some_and(|name| !name.contains('/'));
    let missing: Vec<_> = manual.filter(is_manual).filter(|path| !linked.contains(path)).collect();
    assert!(missing.is_empty(), "README.md links none of {missing:?}");
}

/// The scans find their samples: otherwise every page would pass.
#[test]
fn long_lines_links_and_anchors_are_found() {
    let (line, row) = ("x".repeat(LINE_MAX + 1), format!("|{}", "x".repeat(ROW_MAX)));
    assert_eq!(long_lines(&format!("a\n{line}\n{}\n{row}\n", &row[1..=LINE_MAX])), [2, 4]);
    let text = "[a](b.md#c) `[no](x)`\n\n    [no](y)\n```\n[no](z)\n```\n10. [two\n    lines](d)\n    [e](f)";
    assert_eq!(links(text), ["b.md#c", "d", "f"]);
    assert_eq!(links("[a][b] [c][d]\n\n[b]: https://e\n"), ["https://e", "d"]);
    let found = anchors("# `GET /status`, now\n## A\n```\n# no\n```\n## A\n#no\n");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "a-1", "get-status-now"]);
    let page = Source::sample("docs/x.md", "");
    for link in ["nowhere.md", "../README.md#nowhere", "#nowhere"] {
        assert!(broken(&page, link).is_some(), "{link}");
    }
    for link in ["../README.md", "../README.md#a-first-walk", "https://example.com/x"] {
        assert_eq!(broken(&page, link), None);
    }
}
