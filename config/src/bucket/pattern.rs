//! The bucket names that a bucket section serves: one name, or a glob.
//!
//! A name (`tidegate_s3::bucket_name`) is a metrics label, a log field and a path segment, and needs no escaping in any of them. `*`
//! matches any characters except `:`. So the pattern `*` matches no bucket of another tenant, and `acme:*` matches all buckets of one
//! tenant.
//!
//! `?`, classes and `**` are not supported: the only structure of a name is its tenant.

use tidegate_s3::bucket_name::{self, BucketNameError};

use crate::setting::Raw;
use crate::value_type::{ValueError, ValueErrors, ValueType, quoted, toml_text};

const NAME_BYTES_MAX: usize = 128;

/// Why a text is not a bucket name or not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// it is longer than any store allows
    #[error("it is longer than 128 bytes")]
    TooLong,
    /// it is a glob, not a name
    #[error("it contains `*`")]
    Wildcard,
    /// it is no name for another reason
    #[error(transparent)]
    Name(BucketNameError),
}

impl From<BucketNameError> for PatternError {
    fn from(error: BucketNameError) -> Self {
        match error {
            BucketNameError::Character('*') => Self::Wildcard,
            error => Self::Name(error),
        }
    }
}

/// A bucket name, or a glob over bucket names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    /// Parses a name or a glob.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        bucket_name::check(text, |c| c == '*')?;
        Ok(Self { text: text.to_owned() })
    }

    /// Parses a name.
    pub(super) fn exact(name: &str) -> Result<Self, PatternError> {
        let pattern = Self::parse(name)?;
        if pattern.is_exact() { Ok(pattern) } else { Err(PatternError::Wildcard) }
    }

    /// A pattern from a literal of the code.
    pub(super) fn known(text: &'static str) -> Self {
        Self { text: text.to_owned() }
    }

    /// The pattern that matches every name without a tenant.
    pub fn any() -> Self {
        Self::known("*")
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is a name, not a glob.
    pub fn is_exact(&self) -> bool {
        !self.text.contains('*')
    }

    /// Whether it matches only names with a tenant.
    pub fn has_tenant(&self) -> bool {
        self.text.contains(':')
    }

    /// The tenant of every name that it matches, if that is one tenant. It is empty for Ceph's default tenant (`:*`).
    pub fn tenant(&self) -> Option<&str> {
        self.text.split_once(':').map(|(tenant, _)| tenant).filter(|tenant| !tenant.contains('*'))
    }

    /// Literal characters: of two patterns that match a name, the one with more has precedence. The `:` of a tenant does not count: it
    /// is in both.
    pub fn literal_len(&self) -> usize {
        self.text.bytes().filter(|byte| !matches!(byte, b'*' | b':')).count()
    }

    /// Whether the pattern matches `name`. The time is linear in the lengths for any number of `*`.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_exact() {
            return self.text == name;
        }
        match (self.text.split_once(':'), name.split_once(':')) {
            (None, None) => is_match(&self.text, name),
            (Some((tenants, buckets)), Some((tenant, bucket))) => {
                !bucket.contains(':') && is_match(tenants, tenant) && is_match(buckets, bucket)
            }
            _ => false,
        }
    }

    /// Whether a name exists that both match. The time is the product of the lengths.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, other) = (self.text.as_bytes(), other.text.as_bytes());
        // `row[j]`: whether a name exists that matches the rest of `one` and the rest of `other` from `j` on
        let stars = |rest: &[u8]| rest.iter().all(|byte| *byte == b'*');
        let mut row: Vec<bool> = (0..=other.len()).map(|j| stars(&other[j..])).collect();
        for (i, left) in one.iter().enumerate().rev() {
            let below = row;
            row = vec![false; other.len() + 1];
            row[other.len()] = stars(&one[i..]);
            for (j, right) in other.iter().enumerate().rev() {
                row[j] = match (left, right) {
                    (b'*', b'*') => below[j] || row[j + 1],
                    // a `*` does not match a `:`
                    (b'*', right) => below[j] || (*right != b':' && row[j + 1]),
                    (left, b'*') => row[j + 1] || (*left != b':' && below[j]),
                    (left, right) => left == right && below[j + 1],
                };
            }
        }
        row[0]
    }
}

/// Whether a glob matches a text.
fn is_match(glob: &str, text: &str) -> bool {
    let Some((prefix, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
    let within = text.strip_prefix(prefix).and_then(|text| text.strip_suffix(suffix));
    let Some(mut within) = within else {
        return false;
    };
    // the leftmost match of each part leaves the most text for the parts after it
    for part in middle.split('*') {
        let Some(at) = within.find(part) else {
            return false;
        };
        within = &within[at + part.len()..];
    }
    true
}

pub(crate) struct Glob;

impl ValueType for Glob {
    type Value = Pattern;

    fn parse(&self, raw: &Raw) -> Result<Pattern, ValueErrors> {
        let text = raw.text()?;
        Pattern::parse(text)
            .map_err(|error| ValueError::new(format!("{} is not a pattern: {error}", quoted(text))).into())
    }

    fn accepts(&self) -> String {
        "name, may contain `*`".to_owned()
    }

    fn to_toml(&self, value: &Pattern) -> String {
        toml_text(value.as_str())
    }
}

/// One bucket name, of any length.
pub(super) struct BucketName;

impl ValueType for BucketName {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?;
        match bucket_name::check(text, |_| false).map_err(PatternError::from) {
            Ok(()) => Ok(text.to_owned()),
            Err(PatternError::Name(BucketNameError::Character('/'))) => {
                let error =
                    ValueError::new(format!("{} is not a bucket name: it contains '/'", quoted(text)));
                Err(error.with_hint("put the path of an API into the URLs of the endpoints").into())
            }
            Err(error) => {
                Err(ValueError::new(format!("{} is not a bucket name: {error}", quoted(text))).into())
            }
        }
    }

    fn accepts(&self) -> String {
        "name".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
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

    /// A5: a pattern without a tenant matches no bucket of a tenant
    #[test]
    fn a_star_does_not_match_a_colon() {
        for (pattern, name) in [
            ("acme:*", "acme:photos"),
            ("acme:photos", "acme:photos"),
            ("*:photos", "acme:photos"),
            ("*:photos", ":photos"),
            (":*", ":photos"),
            ("*:*", "acme:photos"),
            ("a*e:p*s", "acme:photos"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*", "acme:photos"),
            ("*", ":photos"),
            ("**", "acme:photos"),
            ("a*", "acme:photos"),
            ("*photos", "acme:photos"),
            ("a*s", "acme:photos"),
            ("acme*", "acme:photos"),
            ("acme:*", "photos"),
            ("acme:*", "acme"),
            ("acme:*", "acme:a:photos"),
            ("acme:*", "other:photos"),
            ("acme:*", "xacme:photos"),
            (":*", "acme:photos"),
            (":*", "photos"),
            ("*:*", "photos"),
            ("*:*", "a:b:c"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    /// Every text of up to this length of these characters.
    fn texts(characters: &str, length_max: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        for at in 0..length_max {
            let longest: Vec<String> = texts.iter().filter(|text| text.len() == at).cloned().collect();
            texts.extend(
                longest.iter().flat_map(|text| characters.chars().map(move |c| format!("{text}{c}"))),
            );
        }
        texts
    }

    /// A5: of all short patterns and names, both sides of a match have a tenant or neither has, and patterns that match one name overlap
    #[test]
    fn no_pattern_crosses_tenants() {
        let patterns: Vec<Pattern> =
            texts("a:*", 4).iter().filter_map(|text| Pattern::parse(text).ok()).collect();
        for name in texts("ab:", 3) {
            let matching: Vec<&Pattern> = patterns.iter().filter(|pattern| pattern.matches(&name)).collect();
            for pattern in &matching {
                assert_eq!(pattern.has_tenant(), name.contains(':'), "{} {name}", pattern.as_str());
                let others = matching.iter().filter(|other| !pattern.overlaps(other));
                assert_eq!(others.count(), 0, "{} {name}", pattern.as_str());
            }
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
            ("acme:*", "*:photos"),
            ("*:*", "acme:a"),
        ] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("logs-*", "data-*"),
            ("*-a", "*-b"),
            ("a*c", "b*c"),
            ("a", "b"),
            ("ab*", "a"),
            ("*", "acme:*"),
            ("*", "acme:photos"),
            ("acme:*", "other:*"),
            ("*photos", "acme:photos"),
        ] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }

    #[test]
    fn literal_length_ranks_the_more_specific_pattern_higher() {
        let length = |text| Pattern::parse(text).unwrap().literal_len();
        assert_eq!((length("*"), length("logs-*"), length("logs-*-eu")), (0, 5, 8));
        assert_eq!((length("*:*"), length("acme:*")), (0, 4));
        assert!(Pattern::parse("logs").unwrap().is_exact());
        assert!(!Pattern::any().is_exact());
    }

    #[test]
    fn invalid_patterns_are_rejected() {
        let invalid_name = |error| Err(PatternError::Name(error));
        assert_eq!(Pattern::parse(""), invalid_name(BucketNameError::Empty));
        assert_eq!(Pattern::parse("-x"), invalid_name(BucketNameError::LeadingHyphen));
        assert_eq!(Pattern::parse("a/b"), invalid_name(BucketNameError::Character('/')));
        assert_eq!(Pattern::parse("a\nb"), invalid_name(BucketNameError::Character('\n')));
        assert_eq!(Pattern::parse(&"a".repeat(129)), Err(PatternError::TooLong));
        assert_eq!(Pattern::parse("acme:"), invalid_name(BucketNameError::TenantAlone));
        assert_eq!(Pattern::exact("a*"), Err(PatternError::Wildcard));
    }
}
