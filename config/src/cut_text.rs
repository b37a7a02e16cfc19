//! The signs that the text of a configuration file is a part of a longer one.
//!
//! A file that is read while it is written can end anywhere. Where its end is no whole TOML or YAML the parser refuses it. Otherwise
//! the end of the text shows it, unless that is a whole line within a section: `requests_per_second = 1` of `1000` has no newline, and
//! `[buckets.photos]` has no key.

use std::fmt;

/// Why a text may be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutText {
    /// it has no text
    Empty,
    /// its last line does not end
    WithinLine,
    /// its last section has no key
    AfterHead,
}

impl CutText {
    /// Finds a sign in the text of a file, in YAML or TOML. A text of comments alone has none.
    pub(crate) fn find(text: &str, is_yaml: bool) -> Option<Self> {
        let is_content = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let last = text.lines().map(str::trim).rfind(is_content);
        match last {
            _ if text.trim().is_empty() => Some(Self::Empty),
            _ if !text.ends_with('\n') => Some(Self::WithinLine),
            Some(line) if is_head(line, is_yaml) => Some(Self::AfterHead),
            _ => None,
        }
    }

    /// The fix of a file that is whole.
    pub(crate) fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::WithinLine => Some("if it is whole, end its last line with a newline"),
            Self::AfterHead => Some("if it is whole, remove the section at its end, which sets nothing"),
        }
    }
}

impl fmt::Display for CutText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::WithinLine => "does not end with a newline, so it may be cut off",
            Self::AfterHead => "ends with a section without a key, so it may be cut off",
        })
    }
}

/// Whether a line is the head of a section in TOML (`[a.b]`), or a key without a value in YAML (`a:`).
fn is_head(line: &str, is_yaml: bool) -> bool {
    let line = without_comment(line);
    if is_yaml {
        return line.ends_with(':');
    }
    // The last line of a list of lists begins with a bracket too.
    line.starts_with('[') && line.ends_with(']') && (line.starts_with("[[") || !line.ends_with("]]"))
}

/// The line without a comment at its end. A `#` within a quoted name is no comment.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (c, quote) {
            ('#', None) => return line[..at].trim_end(),
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G3: each sign is found, and whole files have none
    #[test]
    fn signs_are_found() {
        for (text, expected) in [
            ("", Some(CutText::Empty)),
            (" \n\n", Some(CutText::Empty)),
            ("# nothing is set\n", None),
            ("a = 1", Some(CutText::WithinLine)),
            ("a = 1\n", None),
            ("a = 1\n\n# end\n", None),
            ("a = 1\r\n", None),
            ("[a]\n", Some(CutText::AfterHead)),
            ("b = 1\n[a.\"x#y\"] # of a\n\n", Some(CutText::AfterHead)),
            ("[[a]]\n", Some(CutText::AfterHead)),
            ("a = [\n[\"b\"]]\n", None),
            ("a = [\n1,\n]\n", None),
        ] {
            assert_eq!(CutText::find(text, false), expected, "{text:?}");
        }
        for (text, expected) in
            [("a:\n  b: 1\n", None), ("a:\n  b:\n", Some(CutText::AfterHead)), ("a:\n  b:\n    [c]\n", None)]
        {
            assert_eq!(CutText::find(text, true), expected, "{text:?}");
        }
    }

    /// G3: of each part of a file either the parser or the end of the text shows that it is cut off, unless it ends with a whole line
    #[test]
    fn a_part_of_a_file_is_found_out() {
        let whole = "server.port = 8081\n[rate_limit.global]\nrequests_per_second = 1000\n[buckets.b]\nauth = [\"anonymous\"]\n\
            [buckets.b.s3]\nendpoints = [\"http://store:9000\"]\n";
        for end in whole.char_indices().map(|(at, _)| at).filter(|at| !whole[..*at].ends_with('\n')) {
            assert!(CutText::find(&whole[..end], false).is_some(), "{:?}", &whole[..end]);
        }
        let heads = whole
            .match_indices("]\n")
            .filter(|(at, _)| whole[..*at].lines().last().unwrap().starts_with('['));
        for (at, _) in heads {
            assert_eq!(
                CutText::find(&whole[..at + 2], false),
                Some(CutText::AfterHead),
                "{:?}",
                &whole[..at + 2]
            );
        }
    }
}
