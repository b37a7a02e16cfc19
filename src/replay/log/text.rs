//! Reads a line of the terminal format: `2026-11-29T12:00:00.000Z INFO request, id: 7, status: 200`.
//!
//! A value with a separator, a quote or an escape is in quotes with JSON's escapes. Colours are not read: only a terminal gets them.

use std::borrow::Cow;

use crate::replay::log::line::{FieldCollector, LineError, LogLine, parse_timestamp};

/// Parses a line. Lines other than access lines keep their fields if `keeps_other_fields` is set.
pub(super) fn parse(line: &[u8], keeps_other_fields: bool) -> Result<LogLine<'_>, LineError> {
    let malformed = LineError::Malformed;
    let line = std::str::from_utf8(line).map_err(|_| malformed)?;
    let (stamp, rest) = line.split_once(' ').ok_or(malformed)?;
    let (level, rest) = rest.split_once(' ').ok_or(malformed)?;
    let mut fields = FieldCollector { keeps_other_fields, ..FieldCollector::default() };
    fields.written_us = parse_timestamp(stamp.as_bytes());
    if fields.written_us.is_none() || !["CRIT", "ERRO", "WARN", "INFO", "DEBG", "TRCE"].contains(&level) {
        return Err(malformed);
    }
    fields.other.level = level.into();
    let (message, mut rest) = value(rest)?;
    fields.message(message);
    if fields.is_request || keeps_other_fields {
        while let Some(field) = rest.strip_prefix(", ") {
            let (key, after) = field.split_once(": ").ok_or(malformed)?;
            let (value, after) = value(after)?;
            match value.parse::<u64>() {
                Ok(number) if !is_text(key) => fields.number(key, number),
                _ => fields.text(key, value),
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(malformed);
        }
    }
    fields.finish()
}

/// Whether a field is a text even if it has digits only.
fn is_text(key: &str) -> bool {
    matches!(key, "bucket" | "key" | "subject" | "reason" | "client")
}

/// A value up to the next field, and the text after it.
fn value(text: &str) -> Result<(Cow<'_, str>, &str), LineError> {
    if !text.starts_with('"') {
        let end = text.find(", ").unwrap_or(text.len());
        return Ok((Cow::Borrowed(&text[..end]), &text[end..]));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let Some(Ok(value)) = values.next() else { return Err(LineError::Malformed) };
    Ok((Cow::Owned(value), &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replay::log::line::LineKind;

    const LINE: &str = "2026-11-21T07:11:32.321Z INFO request, id: 04d8, method: HEAD, path: \"/b/a, b\", bucket: 7, status: 200, client: 127.0.0.1, class: read, cost: 1, attempts: 1, attempts_detail: 0:503:1,0:200:2, queue_us: 9, start_us: 1795245092320112, total_us: 1025";

    /// O2: the fields of the terminal format are those of JSON
    #[test]
    fn a_terminal_line_is_read() {
        let LineKind::Request(fields) = parse(LINE.as_bytes(), false).unwrap().kind else { panic!() };
        assert_eq!((fields.bucket.as_deref(), fields.status, fields.total_us), (Some("7"), 200, Some(1025)));
        assert_eq!(fields.attempts_detail.as_deref(), Some("0:503:1,0:200:2"));
        let other = "2026-11-21T07:11:32.321Z WARN circuit opened, cause: status 503, open_ms: 5";
        let LineKind::Other(other) = parse(other.as_bytes(), true).unwrap().kind else { panic!() };
        assert_eq!((&*other.message, other.fields.len()), ("circuit opened", 2));
    }

    /// Logs of other programs are no lines.
    #[test]
    fn other_formats_are_malformed() {
        for line in [
            "127.0.0.1 - - [21/Nov/2026:07:11:32 +0000] \"GET / HTTP/1.1\" 200 5",
            "Nov 21 07:11:32 host sshd[1]: x",
            "2026-11-21T07:11:32.321Z host app: x",
            "",
        ] {
            assert_eq!(parse(line.as_bytes(), false), Err(LineError::Malformed), "{line}");
        }
    }

    proptest! {
        /// Any text is parsed without a panic.
        #[test]
        fn no_text_panics(noise in ".{0,80}", at in 0..LINE.len()) {
            let _ = parse(noise.as_bytes(), true);
            let _ = parse(format!("{}{noise}", &LINE[..at]).as_bytes(), true);
        }
    }
}
