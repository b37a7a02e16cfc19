//! Rust code with its string literals separated, for rules about words in certain positions.
//!
//! There is no parser: literals are found by their quotes, and brackets are matched outside of them. Positions are
//! bytes.

use std::collections::BTreeSet;
use std::ops::Range;

use super::sources::Source;

/// The code of one file without its tests.
pub(crate) struct Code {
    text: String,
    /// The text with the inside of every literal blanked, of the same byte length.
    blank: String,
    /// The byte range inside each literal.
    literals: Vec<Range<usize>>,
}

/// Whether it is in lower case with underscores, as reasons and fields are.
pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl Code {
    pub(crate) fn of(source: &Source) -> Self {
        let lines: Vec<&str> = source.code().into_iter().map(|(_, line)| line).collect();
        let text = lines.join("\n");
        Self { blank: without_literals(&text), literals: literals(&text), text }
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The first literal within `range`.
    pub(crate) fn first_literal(&self, range: Range<usize>) -> Option<&str> {
        let literal = self.literals.iter().find(|literal| range.contains(&literal.start))?;
        Some(&self.text[literal.clone()])
    }

    /// The literals within `range` that are words.
    pub(crate) fn words(&self, range: Range<usize>) -> BTreeSet<String> {
        let inside = |literal: &&Range<usize>| range.contains(&literal.start) && literal.end <= range.end;
        let text = |literal: &Range<usize>| self.text[literal.clone()].to_owned();
        self.literals.iter().filter(inside).map(text).filter(|text| is_word(text)).collect()
    }

    /// The literals within `range` that name a field: `"name" =>`, at the macro's own level.
    pub(crate) fn keys(&self, range: Range<usize>) -> BTreeSet<String> {
        let is_key = |literal: &&Range<usize>| {
            if !range.contains(&literal.start) {
                return false;
            }
            let before = &self.blank[range.start..literal.start];
            let is_own_level =
                before.matches(['(', '{', '[']).count() == before.matches([')', '}', ']']).count();
            let rest = self.blank[literal.end..].strip_prefix('"');
            is_own_level && rest.is_some_and(|rest| rest.trim_start().starts_with("=>"))
        };
        self.literals.iter().filter(is_key).map(|literal| self.text[literal.clone()].to_owned()).collect()
    }

    /// The content of the first brackets after each `begin`.
    pub(crate) fn after(&self, begin: &str, open: char, close: char) -> Vec<Range<usize>> {
        let starts = self.blank.match_indices(begin).filter(|(at, _)| {
            let before = self.blank[..*at].chars().next_back();
            begin.starts_with('.') || before.is_none_or(|before| !before.is_alphanumeric() && before != '_')
        });
        let inside = |(at, _): (usize, &str)| {
            // `begin` may end with the bracket itself
            let from = at + begin.len() - usize::from(begin.ends_with(open));
            let first = from + self.blank[from..].find(open)?;
            let mut depth = 0_usize;
            for (offset, found) in self.blank[first..].match_indices([open, close]) {
                depth = if found.starts_with(open) { depth + 1 } else { depth - 1 };
                if depth == 0 {
                    return Some(first + 1..first + offset);
                }
            }
            None
        };
        starts.filter_map(inside).collect()
    }

    /// The literal directly after each `place`.
    pub(crate) fn literal_after(&self, place: &str) -> BTreeSet<String> {
        let follows = |literal: &&Range<usize>| self.text[..literal.start].ends_with(&format!("{place}\""));
        let text = |literal: &Range<usize>| self.text[literal.clone()].to_owned();
        self.literals.iter().filter(follows).map(text).filter(|text| is_word(text)).collect()
    }

    /// From each `begin` to its semicolon.
    pub(crate) fn statements(&self, begin: &str) -> Vec<Range<usize>> {
        let end = |at: usize| self.blank[at..].find(';').map_or(self.blank.len(), |offset| at + offset);
        self.blank.match_indices(begin).map(|(at, _)| at..end(at)).collect()
    }
}

/// The text with the inside of every literal blanked.
pub(super) fn without_literals(text: &str) -> String {
    let mut blank = text.to_owned().into_bytes();
    for literal in literals(text) {
        blank[literal].fill(b' ');
    }
    String::from_utf8(blank).unwrap()
}

/// The insides of string literals, raw ones too. A quote as a character or byte starts none.
fn literals(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if text[at..].starts_with("'\"'") || text[at..].starts_with("'\\\"'") {
            at += if bytes[at + 1] == b'"' { 3 } else { 4 };
            continue;
        }
        if bytes[at] != b'"' {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let hashes = text[..at].chars().rev().take_while(|c| *c == '#').count();
        let is_raw = text[..at - hashes].ends_with('r');
        let begin = at + 1;
        let end = if is_raw {
            text[begin..]
                .find(&format!("\"{}", "#".repeat(hashes)))
                .map_or(text.len(), |offset| begin + offset)
        } else {
            plain_end(bytes, begin)
        };
        found.push(begin..end);
        at = end + 1;
    }
    found
}

fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// Literals with any content are found; the text between them is not.
#[test]
fn literals_are_set_apart() {
    let text = "f(\"a\", '\"', \"b\\\"c\", r#\"d\"e\"#, b'\"', \"é\")";
    let found: Vec<&str> = literals(text).into_iter().map(|range| &text[range]).collect();
    assert_eq!(found, ["a", "b\\\"c", "d\"e", "é"]);
    let code = Code::of(&Source::sample("src/x.rs", "g(h(\"x\"), \")\"); g(\"y\")"));
    let inside: Vec<&str> = code.after("g(", '(', ')').into_iter().map(|range| &code.text[range]).collect();
    assert_eq!(inside, ["h(\"x\"), \")\"", "\"y\""]);
}
