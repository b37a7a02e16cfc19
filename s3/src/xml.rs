//! XML helpers: the encoding of a document, entities, and tags. Only UTF-8 is accepted.
//!
//! The encoding determines the keys in a document, so a document that a store could decode differently is rejected: with a declaration or
//! byte order mark of another encoding, or with another `charset` in its media type, which takes precedence over the declaration (RFC 7303,
//! section 3). Without a declaration a document is UTF-8 (XML 1.0, section 4.3.3). XML 1.1 has other rules for line ends and is rejected.

use std::borrow::Cow;

use memchr::memchr;
use memchr::memmem::find;

use crate::headers::{Headers, KnownHeader, ascii_text};

/// The only accepted encoding in declarations and media types. Its case does not matter.
const UTF_8: &str = "utf-8";

/// A document's text after its byte order mark and declaration.
pub(crate) fn document_text(document: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(document).map_err(|_| "it is not UTF-8")?;
    // Every second byte of ASCII text in UTF-16 is zero, and XML allows no such character.
    if text.contains('\0') {
        return Err("it has a null character");
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_declared = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_whitespace());
    match text.strip_prefix("<?xml").filter(is_declared) {
        Some(rest) => {
            let (declaration, rest) = rest.split_once("?>").ok_or("its declaration does not end")?;
            check_declaration(declaration)?;
            Ok(rest)
        }
        // White space is allowed before the root, but not before a declaration (XML 1.0, 2.8).
        None => Ok(text.trim_start_matches([' ', '\t', '\r', '\n'])),
    }
}

/// Checks the `charset` of a document's media type.
pub fn check_media_type<'a>(headers: impl Headers<'a>) -> Result<(), &'static str> {
    let is_utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case(UTF_8)
        }
        _ => true,
    };
    let mut types = headers.get_all(KnownHeader::ContentType);
    let all = types.all(|value| ascii_text(value).is_some_and(|text| text.split(';').skip(1).all(is_utf_8)));
    if all { Ok(()) } else { Err("the charset of its content-type is not UTF-8") }
}

/// Checks a declaration (XML 1.0, section 2.8): version, encoding and standalone in this order.
fn check_declaration(declaration: &str) -> Result<(), &'static str> {
    const MALFORMED: &str = "its declaration is malformed";
    let mut expected = ["version", "encoding", "standalone"].iter();
    let mut rest = declaration.trim_ascii();
    let mut has_version = false;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(MALFORMED)?;
        let after = after.trim_ascii_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(MALFORMED)?;
        let (value, after) = after[1..].split_once(quote).ok_or(MALFORMED)?;
        let name = name.trim_ascii_end();
        expected.find(|known| **known == name).ok_or(MALFORMED)?;
        match name {
            "version" if value == "1.0" => has_version = true,
            "version" => return Err("its version is not 1.0"),
            "encoding" if !value.eq_ignore_ascii_case(UTF_8) => return Err("its encoding is not UTF-8"),
            _ => {}
        }
        rest = after.trim_ascii_start();
    }
    if has_version { Ok(()) } else { Err(MALFORMED) }
}

/// Whether XML 1.0 allows the character (2.2). Parsers differ on other characters.
fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Replaces the five named entities and numeric character references of a text.
pub(crate) fn unescape(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !text.contains('&') {
        return check_characters(text).map(|()| text.into());
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        let (entity, after) = rest[at + 1..].split_once(';').ok_or("an entity does not end")?;
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => decode_character(entity).ok_or("an entity is unknown")?,
        });
        rest = after;
    }
    plain.push_str(rest);
    check_characters(&plain)?;
    Ok(plain.into())
}

fn check_characters(text: &str) -> Result<(), &'static str> {
    if text.chars().all(is_xml_char) { Ok(()) } else { Err("a text has a character that XML does not allow") }
}

/// The character of a numeric reference.
fn decode_character(entity: &str) -> Option<char> {
    let number = entity.strip_prefix('#')?;
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
    // `from_str_radix` accepts a sign.
    let plain = digits.chars().all(|c| c.is_digit(radix));
    let number = plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten();
    number.and_then(char::from_u32).filter(|c| *c != '\0')
}

/// The length of the tag, comment, CDATA section or instruction at the start of `bytes`; none if it is incomplete.
pub(crate) fn tag_length(bytes: &[u8]) -> Option<usize> {
    let to = |end: &[u8]| find(bytes, end).map(|at| at + end.len());
    match bytes {
        // An incomplete comment or CDATA section.
        b"<!" | b"<!-" | b"<![" => None,
        [b'<', b'!', b'-', b'-', ..] => to(b"-->"),
        [b'<', b'!', b'[', ..] => to(b"]]>"),
        [b'<', b'?', ..] => to(b"?>"),
        _ => {
            let mut quote = None;
            let end = bytes.iter().position(|byte| match (quote, byte) {
                (None, b'>') => true,
                (None, b'"' | b'\'') => {
                    quote = Some(*byte);
                    false
                }
                (Some(open), byte) if open == *byte => {
                    quote = None;
                    false
                }
                _ => false,
            });
            end.map(|at| at + 1)
        }
    }
}

/// An element's name without its namespace prefix.
pub(crate) fn local_name(name: &[u8]) -> &[u8] {
    memchr(b':', name).map_or(name, |colon| &name[colon + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_request::HeaderList;

    /// A5
    #[test]
    fn the_text_of_a_document_follows_its_declaration() {
        for document in [
            "<a>é</a>",
            "\u{feff}<a>é</a>",
            "\n<a>é</a>",
            "<?xml version=\"1.0\"?><a>é</a>",
            "<?xml version='1.0' encoding='utf-8' ?><a>é</a>",
            "<?xml version = \"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?><a>é</a>",
            "\u{feff}<?xml\tversion=\"1.0\"\n encoding=\"Utf-8\"?><a>é</a>",
        ] {
            assert_eq!(document_text(document.as_bytes()), Ok("<a>é</a>"), "{document}");
        }
    }

    /// A5: every document that a store could decode differently
    #[test]
    fn a_document_in_another_encoding_is_rejected() {
        for declaration in [
            "version=\"1.0\" encoding=\"ISO-8859-1\"",
            "version='1.0' encoding='utf-16'",
            "version='1.0' encoding='UTF-7'",
            "version='1.0' encoding='utf8'",
            "version='1.0' encoding=''",
            "version='1.0' encoding=utf-8",
            "version='1.0' encoding='utf-8' encoding='utf-7'",
            "version='1.0' standalone='yes' encoding='utf-7'",
            "encoding='utf-8'",
            "encoding='utf-8' version='1.0'",
            "version='1.1' encoding='utf-8'",
            "version='1.0' Encoding='utf-8'",
            "",
        ] {
            let document = format!("<?xml {declaration}?><a/>");
            assert!(document_text(document.as_bytes()).is_err(), "{document}");
        }
        let wide = |bytes: fn(u16) -> [u8; 2]| "<a/>".encode_utf16().flat_map(bytes).collect::<Vec<_>>();
        let with_mark = |mark: &[u8], document: &[u8]| [mark, document].concat();
        for document in [
            b"<a>\xe9</a>".to_vec(),
            wide(u16::to_be_bytes),
            wide(u16::to_le_bytes),
            with_mark(b"\xfe\xff", &wide(u16::to_be_bytes)),
            with_mark(b"\xff\xfe", &wide(u16::to_le_bytes)),
            with_mark(b"\x00\x00\xfe\xff", b"\x00\x00\x00<"),
            with_mark(b"\xff\xfe\x00\x00", b"<\x00\x00\x00"),
            b"<?xml version='1.0'".to_vec(),
        ] {
            assert!(document_text(&document).is_err(), "{:?}", document.escape_ascii().to_string());
        }
    }

    /// A5
    #[test]
    fn a_media_type_with_another_charset_is_rejected() {
        for (value, is_accepted) in [
            ("application/xml", true),
            ("text/xml; charset=UTF-8", true),
            ("text/xml; a=b;CHARSET = \"utf-8\"", true),
            ("text/xml;charset=iso-8859-1", false),
            ("text/xml; a=b; charset=\"utf-16\"", false),
        ] {
            let headers = HeaderList::new([("content-type", "application/xml"), ("content-type", value)]);
            assert_eq!(check_media_type(&headers).is_ok(), is_accepted, "{value}");
        }
        assert_eq!(check_media_type(&HeaderList::default()), Ok(()));
    }
}
