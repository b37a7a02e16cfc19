//! Reads a line of JSON as the log writes it: one flat object without white space.
//!
//! The scanner looks at each byte once and copies nothing. It gives up on anything else that is JSON (white space, nested values, escaped
//! keys, numbers with a sign or decimals, fields before the message), and `serde_json` reads the line.

use std::borrow::Cow;

use memchr::memchr2;
use serde_json::Value;

use crate::replay::log::line::{FieldCollector, LineError, LogLine, parse_timestamp};

/// A flat object that the scanner does not read.
struct NotPlain;

/// Parses a line. Lines other than access lines keep their fields if `keeps_other_fields` is set.
pub(super) fn parse(line: &[u8], keeps_other_fields: bool) -> Result<LogLine<'_>, LineError> {
    let mut fields = FieldCollector { keeps_other_fields, ..FieldCollector::default() };
    match scan(line, &mut fields) {
        Ok(()) => fields.finish(),
        Err(NotPlain) => parse_any(line, keeps_other_fields),
    }
}

/// Fills the collector from a plain line.
fn scan<'a>(line: &'a [u8], fields: &mut FieldCollector<'a>) -> Result<(), NotPlain> {
    let mut rest = line.strip_prefix(b"{\"").ok_or(NotPlain)?;
    loop {
        let end = memchr2(b'"', b'\\', rest).ok_or(NotPlain)?;
        let key = std::str::from_utf8(&rest[..end]).map_err(|_| NotPlain)?;
        // The message decides what a field means.
        if fields.other.message.is_empty() && !matches!(key, "ts" | "level" | "msg") {
            return Err(NotPlain);
        }
        rest = rest[end..].strip_prefix(b"\":").ok_or(NotPlain)?;
        rest = match rest.first() {
            Some(b'"') => {
                let (value, after) = text(&rest[1..])?;
                add_text(fields, key, value);
                after
            }
            Some(b'0'..=b'9') => {
                let (value, after) = number(rest)?;
                fields.number(key, value);
                after
            }
            Some(b't') => rest.strip_prefix(b"true").ok_or(NotPlain)?,
            Some(b'f') => rest.strip_prefix(b"false").ok_or(NotPlain)?,
            Some(b'n') => rest.strip_prefix(b"null").ok_or(NotPlain)?,
            _ => return Err(NotPlain),
        };
        if rest == b"}" {
            return Ok(());
        }
        rest = rest.strip_prefix(b",\"").ok_or(NotPlain)?;
        // Nothing else of such a line is used.
        if !fields.is_request && !fields.keeps_other_fields && !fields.other.message.is_empty() {
            return if line.ends_with(b"}") { Ok(()) } else { Err(NotPlain) };
        }
    }
}

fn add_text<'a>(fields: &mut FieldCollector<'a>, key: &str, value: Cow<'a, str>) {
    match key {
        "ts" => fields.written_us = parse_timestamp(value.as_bytes()),
        "msg" => fields.message(value),
        "level" if !fields.is_request => fields.other.level = value,
        _ => fields.text(key, value),
    }
}

/// The text up to its closing quote, and the bytes after it.
fn text(bytes: &[u8]) -> Result<(Cow<'_, str>, &[u8]), NotPlain> {
    let mut at = 0;
    let mut is_escaped = false;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..).ok_or(NotPlain)?).ok_or(NotPlain)?;
        if bytes[at] == b'"' {
            break;
        }
        is_escaped = true;
        at += 2;
    }
    let value = match is_escaped {
        false => Cow::Borrowed(std::str::from_utf8(&bytes[..at]).map_err(|_| NotPlain)?),
        true => {
            let mut quoted = Vec::with_capacity(at + 2);
            quoted.push(b'"');
            quoted.extend_from_slice(&bytes[..=at]);
            Cow::Owned(serde_json::from_slice::<String>(&quoted).map_err(|_| NotPlain)?)
        }
    };
    Ok((value, &bytes[at + 1..]))
}

/// A whole number, and the bytes after it.
fn number(bytes: &[u8]) -> Result<(u64, &[u8]), NotPlain> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).ok_or(NotPlain)?;
    if matches!(bytes[end], b'.' | b'e' | b'E') {
        return Err(NotPlain);
    }
    let value = bytes[..end]
        .iter()
        .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    Ok((value.ok_or(NotPlain)?, &bytes[end..]))
}

/// Parses any JSON object.
fn parse_any(line: &[u8], keeps_other_fields: bool) -> Result<LogLine<'_>, LineError> {
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(line) else {
        return Err(LineError::Malformed);
    };
    let mut fields = FieldCollector { keeps_other_fields, ..FieldCollector::default() };
    let Some(Value::String(message)) = members.get("msg") else { return Err(LineError::Malformed) };
    fields.message(message.clone().into());
    for (key, value) in members {
        match value {
            Value::String(_) if key == "msg" => {}
            Value::String(value) => add_text(&mut fields, &key, value.into()),
            Value::Number(value) => {
                if let Some(value) = value.as_u64() {
                    fields.number(&key, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }
    fields.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replay::log::line::LineKind;

    const LINE: &str = r#"{"ts":"2026-11-21T07:11:32.321Z","level":"INFO","msg":"request","id":"a","method":"GET","path":"/b/a\"b","bucket":"b","status":200,"client":"10.0.0.1","client_source":"peer","received_bytes":0,"sent_bytes":10,"class":"read","cost":1,"attempts":1,"endpoint":0,"admission_us":36,"queue_us":90,"first_byte_us":862,"start_us":1795245092320112,"total_us":1025}"#;

    fn request(line: &str) -> Box<crate::replay::log::line::RequestFields<'_>> {
        match parse(line.as_bytes(), false).unwrap().kind {
            LineKind::Request(fields) => fields,
            LineKind::Other(other) => panic!("{other:?}"),
        }
    }

    /// O2: the scanner and serde_json read the same fields
    #[test]
    fn both_parsers_read_the_same() {
        let mut fields = FieldCollector::default();
        assert!(scan(LINE.as_bytes(), &mut fields).is_ok(), "the scanner reads the line of the log");
        let scanned = fields.finish().unwrap();
        assert_eq!(scanned, parse_any(LINE.as_bytes(), false).unwrap());
        let spaced = LINE.replace("\":", "\" : ");
        assert_eq!(parse(spaced.as_bytes(), false).unwrap(), scanned);
        let sorted: Value = serde_json::from_str(LINE).unwrap();
        assert_eq!(parse(sorted.to_string().as_bytes(), false).unwrap(), scanned);
        let fields = request(LINE);
        assert_eq!((fields.status, fields.total_us, fields.queue_us), (200, Some(1025), Some(90)));
        assert_eq!(fields.client, Some("10.0.0.1".parse().unwrap()));
    }

    /// Escaped values are unescaped.
    #[test]
    fn escapes_are_resolved() {
        let line = LINE.replace("\"bucket\":\"b\"", r#""subject":"a\"\u00e9\\","bucket":"b""#);
        assert_eq!(request(&line).subject.as_deref(), Some("a\"é\\"));
    }

    /// A line without its end, or without the duration, is no request.
    #[test]
    fn cut_lines_are_malformed() {
        for end in 0..LINE.len() {
            assert_eq!(parse(&LINE.as_bytes()[..end], false), Err(LineError::Malformed), "{end}");
        }
        let line = LINE.replace(",\"total_us\":1025", "");
        assert_eq!(parse(line.as_bytes(), false), Err(LineError::Incomplete));
    }

    /// Other messages keep their fields only where they are used.
    #[test]
    fn other_lines_have_their_fields() {
        let line = r#"{"ts":"2026-11-21T07:11:32.321Z","level":"WARN","msg":"circuit opened","cause":"status 503","open_ms":60000,"bucket":"b"}"#;
        let LineKind::Other(other) = parse(line.as_bytes(), true).unwrap().kind else { panic!() };
        assert_eq!((&*other.level, &*other.message, other.fields.len()), ("WARN", "circuit opened", 3));
        let LineKind::Other(other) = parse(line.as_bytes(), false).unwrap().kind else { panic!() };
        assert_eq!(other.fields.len(), 0);
    }

    proptest! {
        /// Any bytes are parsed without a panic, also after a change of some bytes of a line.
        #[test]
        fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0..LINE.len(), with in any::<u8>()) {
            let _ = parse(&noise, true);
            let mut line = LINE.as_bytes().to_vec();
            line[at] = with;
            let _ = parse(&line, true);
            line.truncate(at);
            line.extend(noise);
            let _ = parse(&line, false);
        }
    }
}
