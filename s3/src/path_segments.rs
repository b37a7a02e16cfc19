//! Path segments in all ways in which an upstream server may decode them (V3, V12).
//!
//! Servers differ in how they decode a path. Some decode it twice. Some accept a backslash as a separator. Servlet
//! containers (Tomcat, Jetty, Spring) remove `;parameters` from each segment before they resolve `..`. Some decoders
//! accept overlong UTF-8 (RFC 3629, section 3, forbids it), so `%c0%ae` is a dot. IIS has decoded `%u002e` to a dot.
//! This module defines all readings of a path and the meaning of a segment. The injection checks, policies with
//! prefixes and copy sources use it and have no rules of their own.
//!
//! It only classifies: no caller sends a reading upstream (V5).

use memchr::{memchr, memchr_iter, memchr3, memmem};

use crate::percent::percent_decode;

/// The meaning of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// No characters, or only parameters.
    Empty,
    /// `.`
    Current,
    /// `..`
    Parent,
    /// Anything else.
    Name,
}

impl Segment {
    /// Classifies a segment by the text before its first `;`.
    fn of(segment: &[u8]) -> Self {
        match segment {
            [] | [b';', ..] => Self::Empty,
            [b'.'] | [b'.', b';', ..] => Self::Current,
            [b'.', b'.'] | [b'.', b'.', b';', ..] => Self::Parent,
            _ => Self::Name,
        }
    }
}

/// The segments of one reading, separated by slash or backslash.
pub fn segments(reading: &[u8]) -> impl Iterator<Item = Segment> {
    reading.split(|byte| matches!(byte, b'/' | b'\\')).map(Segment::of)
}

/// Applies `find` to every reading of `text` until one returns a value. `text` is a path, or a part of one, that a server may
/// decode `decodings` more times.
pub fn find_decoding<T>(text: &[u8], decodings: u8, find: &impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let found = find(text);
    if found.is_some() || has_one_reading(text) {
        return found;
    }
    // A folded reading can have more segments than the other, so neither replaces the other.
    fold_overlong(text)
        .and_then(|folded| find_decoding(&folded, decodings, find))
        .or_else(|| fold_unicode(text).and_then(|folded| find_decoding(&folded, decodings, find)))
        .or_else(|| {
            let left = decodings.checked_sub(1).filter(|_| memchr(b'%', text).is_some())?;
            find_decoding(&percent_decode(text), left, find)
        })
}

/// Whether a text has no escape and no byte of a longer encoding, as nearly all paths. The loop has no early end: the compiler makes it
/// one of vectors.
fn has_one_reading(text: &[u8]) -> bool {
    text.iter().fold(true, |is_plain, byte| is_plain & byte.is_ascii() & (*byte != b'%'))
}

/// Whether a reading of a path can have a `.` or `..` segment. Nearly all paths have one reading, and no segment that begins with a dot.
#[must_use]
pub fn may_have_dot_segment(path: &[u8]) -> bool {
    let begins_segment = |at: usize| at == 0 || matches!(path[at - 1], b'/' | b'\\');
    !has_one_reading(path) || memchr_iter(b'.', path).any(begins_segment)
}

/// Whether a reading of a decoded key has a `..` segment.
pub(crate) fn has_parent_segment(key: &[u8]) -> bool {
    has_segment(key, |segment| segment == Segment::Parent)
}

/// Whether a reading of a decoded key has a `.` or `..` segment.
pub fn has_dot_segment(key: &[u8]) -> bool {
    has_segment(key, |segment| matches!(segment, Segment::Current | Segment::Parent))
}

/// The key is decoded once, so one decoding is left.
fn has_segment(key: &[u8], is_sought: impl Fn(Segment) -> bool) -> bool {
    find_decoding(key, 1, &|reading| segments(reading).any(&is_sought).then_some(())).is_some()
}

/// Replaces each encoding that `read` finds at a position by its character; `None` if there is no such encoding.
fn fold(text: &[u8], read: fn(&[u8]) -> Option<(u8, usize)>) -> Option<Vec<u8>> {
    let mut folded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (character, length) = read(rest).unwrap_or((*first, 1));
        folded.push(character);
        rest = rest.get(length..).unwrap_or(after);
    }
    (folded.len() < text.len()).then_some(folded)
}

/// Replaces overlong encodings of ASCII characters by the characters; `None` if there is no such encoding.
fn fold_overlong(text: &[u8]) -> Option<Vec<u8>> {
    memchr3(0xc0, 0xc1, 0xe0, text).or_else(|| memchr3(0xf0, 0xf8, 0xfc, text))?;
    fold(text, overlong)
}

/// The ASCII character that `text` begins with in an overlong encoding, and the length of that encoding. The forms of
/// five and six bytes are of RFC 2279. A lax decoder uses the low six bits of any byte after 0xc0 or 0xc1.
fn overlong(text: &[u8]) -> Option<(u8, usize)> {
    let (high, low, length) = match text {
        [high @ (0xc0 | 0xc1), low, ..] => return Some(((high & 1) << 6 | (low & 0x3f), 2)),
        [0xe0, high @ (0x80 | 0x81), low, ..] => (*high, *low, 3),
        [0xf0, 0x80, high @ (0x80 | 0x81), low, ..] => (*high, *low, 4),
        [0xf8, 0x80, 0x80, high @ (0x80 | 0x81), low, ..] => (*high, *low, 5),
        [0xfc, 0x80, 0x80, 0x80, high @ (0x80 | 0x81), low, ..] => (*high, *low, 6),
        _ => return None,
    };
    (low & 0xc0 == 0x80).then_some(((high & 1) << 6 | (low & 0x3f), length))
}

/// Replaces `%u` and four hex digits by their ASCII character, full-width forms included; `None` if there is no such escape.
fn fold_unicode(text: &[u8]) -> Option<Vec<u8>> {
    memmem::find(text, b"%u").or_else(|| memmem::find(text, b"%U"))?;
    fold(text, unicode)
}

/// The ASCII character that `text` begins with as `%u` and four hex digits, and the length of that escape.
fn unicode(text: &[u8]) -> Option<(u8, usize)> {
    let [b'%', b'u' | b'U', digits @ ..] = text else { return None };
    let digits = std::str::from_utf8(digits.get(..4)?).ok().filter(|text| !text.starts_with('+'))?;
    let code = u16::from_str_radix(digits, 16).ok()?;
    // U+FF01 to U+FF5E are the full-width forms of U+0021 to U+007E.
    let narrow = if (0xff01..=0xff5e).contains(&code) { code - 0xfee0 } else { code };
    let character = u8::try_from(narrow).ok().filter(u8::is_ascii)?;
    Some((character, 6))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// V12: parameters of a segment do not change its class
    #[test]
    fn a_segment_is_classified_without_its_parameters() {
        for (text, expected) in [
            ("", Segment::Empty),
            (";", Segment::Empty),
            (";..", Segment::Empty),
            (".", Segment::Current),
            (".;x=1", Segment::Current),
            ("..", Segment::Parent),
            ("..;", Segment::Parent),
            ("..;a=b;c", Segment::Parent),
            ("...", Segment::Name),
            ("..name", Segment::Name),
            (".. ", Segment::Name),
            ("a;..", Segment::Name),
            (".a;", Segment::Name),
        ] {
            assert_eq!(Segment::of(text.as_bytes()), expected, "{text}");
        }
    }

    /// V12, V3: a decoded key
    #[test]
    fn a_parent_segment_is_found_in_every_reading() {
        for key in [
            &b"v1/../admin"[..],
            b"v1/..;/admin",
            b"v1/..;jsessionid=1/admin",
            b"v1\\..\\admin",
            b"v1/%2e%2e/admin",
            b"v1/.%2E;x/admin",
            b"v1/..%3b/admin",
            b"v1/..%2fadmin",
            b"v1/..%5cadmin",
            b"v1/\xc0\xae\xc0\xae/admin",
            b"v1/.\xc0\xae;/admin",
            b"v1/\xe0\x80\xae.\xc0\xafadmin",
            b"v1\xc0\xaf..\xc1\x9cadmin",
            b"v1/\xf0\x80\x80\xae\xf0\x80\x80\xae/admin",
            b"v1/%c0%ae%c0%ae/admin",
            b"v1/\xc0\xa52e./admin",
            b"v1/\xc0.\xc0./admin",
            b"v1/\xf8\x80\x80\x80\xae./admin",
            b"v1/\xfc\x80\x80\x80\x80\xae./admin",
            b"v1/%u002e%U002E/admin",
            b"v1/..%u002fadmin",
            b"v1/%uff0e%uFF0E/admin",
            b"v1/..",
            b"..;",
        ] {
            assert!(has_parent_segment(key) && has_dot_segment(key), "{:?}", key.escape_ascii().to_string());
        }
        for key in [
            &b"v1/..name"[..],
            b"v1/name..;x",
            b"v1/a;..",
            b"v1/...;/x",
            b"v1/%252e%252e/x",
            b"v1/\xc0\xaf\xc0\xaf",
            b"v1/\xff\xfe",
            b"v1/%u+02e./x",
            b"v1/%u00e9%u002/x",
            "v1/日本/ü".as_bytes(),
        ] {
            assert!(!has_dot_segment(key), "{:?}", key.escape_ascii().to_string());
        }
        assert!(has_dot_segment(b"v1/.;x/a") && !has_parent_segment(b"v1/.;x/a"));
    }

    /// An encoding of one character of a path: itself, escaped once or twice, or overlong.
    fn encoding(character: char) -> impl Strategy<Value = String> {
        let byte = character as u8;
        let (high, low) = (0xc0 | byte >> 6, 0x80 | byte & 0x3f);
        prop_oneof![
            Just(character.to_string()),
            Just(format!("%{byte:02x}")),
            Just(format!("%{byte:02X}")),
            Just(format!("%25{byte:02x}")),
            Just(format!("%{high:02x}%{low:02X}")),
            Just(format!("%e0%{:02x}%{low:02x}", 0x80 | byte >> 6)),
            Just(format!("%f8%80%80%{:02x}%{low:02x}", 0x80 | byte >> 6)),
            Just(format!("%u00{byte:02x}")),
        ]
    }

    proptest! {
        /// V12: no combination of encodings hides a parent segment
        #[test]
        fn no_mixed_encoding_hides_a_parent_segment(
            before in encoding('/'), first in encoding('.'), second in encoding('.'),
            parameters in prop_oneof![Just(""), Just(";"), Just(";a=1;b")], after in encoding('/'),
        ) {
            let path = format!("v1{before}{first}{second}{parameters}{after}admin");
            prop_assert!(has_parent_segment(&percent_decode(path.as_bytes())), "{path}");
        }

        /// V12: a path with a dot segment in a reading is never taken for one without
        #[test]
        fn no_dot_segment_is_missed(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "/", "\\", ".", "..", ";", "a", "%", "%2e", "%252e", "%2f", "%5c", "%u002e", "%c0%ae", "\u{ff0e}",
                ]),
                0..8,
            ),
        ) {
            let path = pieces.concat();
            let is_dot = |segment| matches!(segment, Segment::Current | Segment::Parent);
            let has = |reading: &[u8]| segments(reading).any(is_dot).then_some(());
            if find_decoding(path.as_bytes(), 2, &has).is_some() {
                prop_assert!(may_have_dot_segment(path.as_bytes()), "{path}");
            }
        }

        /// V12, V5: text without a dot segment in any encoding has none
        #[test]
        fn names_have_no_dot_segments(names in prop::collection::vec("[a-zA-Z0-9ü日 ;=+~_-]{1,8}", 1..6)) {
            prop_assert!(!has_dot_segment(names.join("/").as_bytes()));
        }
    }
}
