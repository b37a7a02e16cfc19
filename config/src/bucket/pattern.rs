//! The bucket names that a bucket serves: one name, or a glob.
//!
//! Only letters, digits, `.`, `_`, `-` and the `*` of a glob: a name is a metrics label, a log field and a
//! path segment, and must need no escaping in any of them. A name cannot begin with `-`, because `/-/` is where
//! the data listener answers its own probes.
//!
//! Deliberately absent: `?`, classes and `**`. A name has no structure for them to match.

use crate::form::{Fault, Faults, Form, shown};
use crate::setting::Raw;

const NAME_BYTES_MAX: usize = 128;

/// A bucket name, or a glob over bucket names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// no characters at all
    #[error("it is empty")]
    Empty,
    /// more characters than any store allows
    #[error("it is longer than 128 bytes")]
    TooLong,
    /// `/-/` belongs to the gateway
    #[error("it begins with `-`")]
    LeadingHyphen,
    /// a name was wanted, not a glob
    #[error("it holds `*`")]
    Wildcard,
    /// a character that would need escaping somewhere
    #[error("it holds {0:?}, only letters, digits, `.`, `_` and `-` are allowed")]
    Character(char),
}

impl Pattern {
    /// Reads a name or a glob.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
        match text.chars().find(|c| !is_allowed(c)) {
            _ if text.is_empty() => Err(PatternError::Empty),
            _ if text.len() > NAME_BYTES_MAX => Err(PatternError::TooLong),
            _ if text.starts_with('-') => Err(PatternError::LeadingHyphen),
            Some(character) => Err(PatternError::Character(character)),
            None => Ok(Self { text: text.to_owned() }),
        }
    }

    /// Reads a name.
    pub(super) fn exact(name: &str) -> Result<Self, PatternError> {
        let pattern = Self::parse(name)?;
        if pattern.is_exact() { Ok(pattern) } else { Err(PatternError::Wildcard) }
    }

    /// A pattern that the code itself names.
    pub(super) fn known(text: &'static str) -> Self {
        Self { text: text.to_owned() }
    }

    /// The pattern of every name.
    pub fn any() -> Self {
        Self::known("*")
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is one name and no glob.
    pub fn is_exact(&self) -> bool {
        !self.text.contains('*')
    }

    /// Characters that must match literally: of two patterns that match a name, the one with more is meant.
    pub fn literal_len(&self) -> usize {
        self.text.bytes().filter(|byte| *byte != b'*').count()
    }

    /// Whether `name` is served; takes time in the length of name and pattern, however many `*` there are.
    pub fn matches(&self, name: &str) -> bool {
        let Some((prefix, rest)) = self.text.split_once('*') else {
            return self.text == name;
        };
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let within = name.strip_prefix(prefix).and_then(|name| name.strip_suffix(suffix));
        let Some(mut within) = within else {
            return false;
        };
        // the leftmost place for each part leaves the most room for those after it
        for part in middle.split('*') {
            let Some(at) = within.find(part) else {
                return false;
            };
            within = &within[at + part.len()..];
        }
        true
    }

    /// Whether there is a name that both match; takes time in the product of their lengths.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, other) = (self.text.as_bytes(), other.text.as_bytes());
        // `row[j]`: whether the rest of `one` and the rest of `other` from `j` on match a name together
        let stars = |rest: &[u8]| rest.iter().all(|byte| *byte == b'*');
        let mut row: Vec<bool> = (0..=other.len()).map(|j| stars(&other[j..])).collect();
        for (i, left) in one.iter().enumerate().rev() {
            let below = row;
            row = vec![false; other.len() + 1];
            row[other.len()] = stars(&one[i..]);
            for (j, right) in other.iter().enumerate().rev() {
                row[j] = match (left, right) {
                    (b'*', _) | (_, b'*') => below[j] || row[j + 1],
                    (left, right) => left == right && below[j + 1],
                };
            }
        }
        row[0]
    }
}

pub(crate) struct Glob;

impl Form for Glob {
    type Value = Pattern;

    fn parse(&self, raw: &Raw) -> Result<Pattern, Faults> {
        let text = raw.text()?;
        Pattern::parse(text)
            .map_err(|error| Fault::new(format!("{} is no pattern: {error}", shown(text))).into())
    }

    fn accepts(&self) -> String {
        "name, may hold `*`".to_owned()
    }

    fn show(&self, value: &Pattern) -> String {
        shown(value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_name_matches_itself_only() {
        assert!(matches("photos", "photos"));
        assert!(!matches("photos", "photos2"));
        assert!(!matches("photos", "Photos"));
    }

    #[test]
    fn a_star_matches_any_run_also_an_empty_one() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("a*c", "abbc"),
            ("a*b*c", "a-b-b-c"),
            ("*ab*ab*", "abab"),
            ("**", "x"),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn literal_parts_do_not_overlap() {
        for (pattern, name) in
            [("a*a", "a"), ("ab*ba", "aba"), ("*ab*ab*", "ab"), ("a*b*c", "acb"), ("a*", "ba"), ("*a", "ab")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_overlap_where_one_name_matches_both() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (Pattern::parse(one).unwrap(), Pattern::parse(other).unwrap());
            assert_eq!(one.overlaps(&other), other.overlaps(&one));
            one.overlaps(&other)
        };
        for (one, other) in [
            ("logs-*", "*-audit"),
            ("logs-*", "logs-prod-*"),
            ("*", "a"),
            ("a*c", "ab*"),
            ("a*b*c", "*x*"),
            ("logs-*", "logs-"),
            ("**", "*"),
        ] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [("logs-*", "data-*"), ("*-a", "*-b"), ("a*c", "b*c"), ("a", "b"), ("ab*", "a")] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }

    #[test]
    fn literal_length_ranks_the_more_specific_pattern_higher() {
        let length = |text| Pattern::parse(text).unwrap().literal_len();
        assert_eq!((length("*"), length("logs-*"), length("logs-*-eu")), (0, 5, 8));
        assert!(Pattern::parse("logs").unwrap().is_exact());
        assert!(!Pattern::any().is_exact());
    }

    #[test]
    fn what_would_need_escaping_is_no_pattern() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("-x"), Err(PatternError::LeadingHyphen));
        assert_eq!(Pattern::parse("a/b"), Err(PatternError::Character('/')));
        assert_eq!(Pattern::parse("a\nb"), Err(PatternError::Character('\n')));
        assert_eq!(Pattern::parse(&"a".repeat(129)), Err(PatternError::TooLong));
        assert_eq!(Pattern::exact("a*"), Err(PatternError::Wildcard));
    }
}
