//! Escapes characters of logged text that could end a line, move a cursor or reorder the displayed text (O2).
//!
//! Every format escapes control characters (C0 with ESC, DEL, C1 with the one-byte CSI), line and paragraph separators, direction marks
//! (Unicode Standard Annex 9, 2), and the byte order mark.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character must be escaped.
pub(crate) fn is_escaped(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Appends a text as a JSON string.
pub(crate) fn write_json_string(text: &str, line: &mut Vec<u8>) -> std::io::Result<()> {
    if needs_no_escape(text) {
        line.reserve(text.len() + 2);
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
        return Ok(());
    }
    let begin = line.len();
    serde_json::to_writer(&mut *line, text)?;
    // serde_json escapes the ASCII control characters except DEL.
    if text.is_ascii() && memchr::memchr(0x7f, text.as_bytes()).is_none() {
        return Ok(());
    }
    let written = String::from_utf8_lossy(&line[begin..]);
    if written.contains(is_escaped) {
        let escaped = escape_controls(&written).into_owned();
        line.truncate(begin);
        line.extend_from_slice(escaped.as_bytes());
    }
    Ok(())
}

/// Whether a text is printable ASCII without quotes and backslashes, as nearly all are. The loop has no early end: the compiler makes it
/// one of vectors.
fn needs_no_escape(text: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    text.bytes().fold(true, |all, byte| all & is_plain(byte))
}

/// The text with an escape for each character that could control a terminal.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    text.chars().for_each(|c| push_escaped(c, &mut escaped));
    Cow::Owned(escaped)
}

/// A value of the terminal format: in quotes if it contains a separator or a character to escape.
pub(crate) fn quote_if_needed(text: &str) -> Cow<'_, str> {
    // Fast path: nearly all texts are plain ASCII, which needs no decoding.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b',')) {
        return Cow::Borrowed(text);
    }
    if !text.contains(|c| matches!(c, '"' | '\\') || is_escaped(c)) && !text.contains(", ") {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 8);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        push_escaped(c, &mut quoted);
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

/// Appends a JSON escape. All escaped characters lie in the Basic Multilingual Plane, so four digits suffice.
fn push_escaped(c: char, text: &mut String) {
    if is_escaped(c) {
        let _ = write!(text, "\\u{:04x}", u32::from(c));
    } else {
        text.push(c);
    }
}
