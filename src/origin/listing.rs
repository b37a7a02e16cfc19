//! Pages of listings: selection of keys and common prefixes, and the encoding of their names.

use std::collections::BTreeMap;
use std::ops::Bound;

use s3s::dto::EncodingType;
use s3s::{S3Result, s3_error};
use tidegate_s3::percent::percent_encode;

/// S3's largest page.
const PAGE_ITEMS_MAX: i32 = 1000;

/// Parameters of a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListQuery<'a> {
    pub(super) prefix: &'a str,
    /// Empty for none.
    pub(super) delimiter: &'a str,
    /// The page begins after this key or common prefix.
    pub(super) after: &'a str,
    pub(super) items_max: usize,
}

/// A page of a listing.
#[derive(Debug, PartialEq)]
pub(super) struct Page<V> {
    pub(super) items: Vec<(String, V)>,
    /// Common prefixes of keys, up to and with the delimiter.
    pub(super) common_prefixes: Vec<String>,
    /// The last key or common prefix of the page, if there are more pages.
    pub(super) next_after: Option<String>,
}

/// Lists one page of a map.
pub(super) fn page<V: Clone>(map: &BTreeMap<String, V>, query: &ListQuery<'_>) -> Page<V> {
    let mut page = Page { items: Vec::new(), common_prefixes: Vec::new(), next_after: None };
    let mut last = None;
    let mut from = match query.after >= query.prefix {
        true => Bound::Excluded(query.after.to_owned()),
        false => Bound::Included(query.prefix.to_owned()),
    };
    while let Some((key, value)) = map.range((from, Bound::Unbounded)).next() {
        if !key.starts_with(query.prefix) || query.items_max == 0 {
            break;
        }
        let group = common_prefix(key, query);
        let name = group.unwrap_or(key);
        if name > query.after {
            if page.items.len() + page.common_prefixes.len() == query.items_max {
                page.next_after = last;
                break;
            }
            match group {
                Some(group) => page.common_prefixes.push(group.to_owned()),
                None => page.items.push((key.clone(), value.clone())),
            }
            last = Some(name.to_owned());
        }
        from = match group {
            None => Bound::Excluded(key.clone()),
            Some(group) => match successor(group) {
                Some(successor) => Bound::Included(successor),
                None => break,
            },
        };
    }
    page
}

/// The common prefix of a key; none if the key has no delimiter after the prefix.
pub(super) fn common_prefix<'a>(key: &'a str, query: &ListQuery<'_>) -> Option<&'a str> {
    let rest = &key[query.prefix.len()..];
    let at = rest.find(query.delimiter).filter(|_| !query.delimiter.is_empty())?;
    Some(&key[..query.prefix.len() + at + query.delimiter.len()])
}

/// The smallest string after all strings that begin with `prefix`; none if there is none.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = u32::from(last) + 1;
        // Skips the surrogates, which are not characters.
        let next = if next == 0xD800 { 0xE000 } else { next };
        if let Some(next) = char::from_u32(next) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// Encoding of names in a listing (`encoding-type`).
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyEncoding(bool);

impl KeyEncoding {
    pub(super) fn from_request(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None | Some("") => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(s3_error!(InvalidArgument, "encoding-type must be url or absent")),
        }
    }

    pub(super) fn encode(self, name: &str) -> String {
        if self.0 { percent_encode(name.as_bytes(), true) } else { name.to_owned() }
    }

    pub(super) fn encode_optional(self, name: Option<String>) -> Option<String> {
        name.map(|name| self.encode(&name))
    }
}

/// The requested size of a page, within S3's limit.
pub(super) fn page_items(requested: Option<i32>) -> S3Result<i32> {
    match requested.unwrap_or(PAGE_ITEMS_MAX) {
        0.. => Ok(requested.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX)),
        _ => Err(s3_error!(InvalidArgument, "the size of a page must not be negative")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(keys: &[String]) -> BTreeMap<String, ()> {
        keys.iter().map(|key| (key.clone(), ())).collect()
    }

    /// Keys and common prefixes of all pages.
    fn all(map: &BTreeMap<String, ()>, prefix: &str, delimiter: &str, items_max: usize) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = page(map, &ListQuery { prefix, delimiter, after: &after, items_max });
            assert!(page.items.len() + page.common_prefixes.len() <= items_max);
            let mut found: Vec<_> =
                page.items.into_iter().map(|(key, ())| key).chain(page.common_prefixes).collect();
            found.sort();
            names.extend(found);
            match page.next_after {
                Some(next) => after = next,
                None => return names,
            }
        }
    }

    /// The definition of S3, as a simple reference implementation.
    fn model(keys: &[String], prefix: &str, delimiter: &str) -> Vec<String> {
        let name = |key: &String| {
            let rest = key.strip_prefix(prefix)?;
            let cut = (!delimiter.is_empty()).then(|| rest.split_once(delimiter)).flatten();
            Some(cut.map_or_else(|| key.clone(), |(head, _)| format!("{prefix}{head}{delimiter}")))
        };
        let mut names: Vec<_> = keys.iter().filter_map(name).collect();
        names.sort();
        names.dedup();
        names
    }

    proptest! {
        /// V5: pages of any size together have the names of the definition, each once and in order
        #[test]
        fn pages_join_to_the_whole(
            keys in prop::collection::vec("[ab/\u{d7ff}\u{10ffff}]{1,6}", 0..20),
            prefix in "[ab/]{0,2}",
            delimiter in prop::sample::select(vec!["", "/", "b", "a/", "\u{10ffff}"]),
            items_max in 1_usize..8,
        ) {
            let expected = model(&keys, &prefix, delimiter);
            prop_assert_eq!(all(&map(&keys), &prefix, delimiter, items_max), expected);
        }
    }

    /// V5: a marker may be a common prefix, a key with it, or a text before the prefix
    #[test]
    fn a_listing_begins_after_its_marker() {
        let keys = ["a", "a/", "a//b", "a/b", "b/1", "b/2", "c"].map(str::to_owned);
        let map = map(&keys);
        let names = |prefix, delimiter, after| {
            let page = page(&map, &ListQuery { prefix, delimiter, after, items_max: 10 });
            assert_eq!(page.next_after, None);
            let keys: Vec<_> = page.items.into_iter().map(|(key, ())| key).collect();
            (keys.join(" "), page.common_prefixes.join(" "))
        };
        let expect = |keys: &str, groups: &str| (keys.to_owned(), groups.to_owned());
        assert_eq!(names("", "/", ""), expect("a c", "a/ b/"));
        assert_eq!(names("", "/", "a/"), expect("c", "b/"));
        assert_eq!(names("", "/", "b/1"), expect("c", ""));
        assert_eq!(names("", "", "b/1"), expect("b/2 c", ""));
        assert_eq!(names("a/", "/", ""), expect("a/ a/b", "a//"));
        assert_eq!(names("b/", "/", "a"), expect("b/1 b/2", ""));
        assert_eq!(names("x", "", ""), expect("", ""));
        let empty = page(&map, &ListQuery { prefix: "", delimiter: "", after: "", items_max: 0 });
        assert_eq!((empty.items.len(), empty.next_after), (0, None));
    }

    #[test]
    fn names_are_encoded_if_requested() {
        let url = EncodingType::from_static(EncodingType::URL);
        assert_eq!(KeyEncoding::from_request(Some(&url)).unwrap().encode("a b+c/ü%"), "a%20b%2Bc/%C3%BC%25");
        assert_eq!(KeyEncoding::from_request(None).unwrap().encode("a b+c"), "a b+c");
        assert!(KeyEncoding::from_request(Some(&EncodingType::from_static("xml"))).is_err());
        assert_eq!(page_items(Some(5000)).unwrap(), 1000);
        assert!(page_items(Some(-1)).is_err());
    }
}
