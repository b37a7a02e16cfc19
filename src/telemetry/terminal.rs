//! The log format for terminals and readers: `2026-11-29T12:00:00.000Z INFO request, id: 7, status: 200`.
//!
//! A line is written into a reusable buffer of the thread, as in `json.rs`. Messages, keys and values are escaped (O2). A field without a
//! value (none, or an empty text) is left out, because most fields of an access line do not apply to most requests.

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use slog::{Drain, KV, Key, Level, Never, OwnedKVList, Record};
use tidegate_actors::clock;

use crate::telemetry::escape;
use crate::telemetry::fields::{FieldFormat, Fields, Line, LineBuffers, LineFields};
use crate::telemetry::log::Sink;

/// Whether a line has colours (ECMA-48, 8.3.117).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For a terminal.
    Colored,
    /// For a file or a pipe.
    Plain,
}

/// Writes records to the sink.
pub(crate) struct TerminalDrain {
    sink: Sink,
    style: Style,
}

impl TerminalDrain {
    pub(crate) fn new(sink: Sink, style: Style) -> Self {
        Self { sink, style }
    }

    /// Writes a line without slog's serializer.
    pub(crate) fn write(&self, line: &Line<'_, impl LineFields>) {
        let message = format_args!("{}", line.message);
        self.with_line(line.level, &message, |fields| line.fields.write(fields));
    }

    /// Writes a line with its time, level and message, and the fields that `write` adds.
    fn with_line(
        &self,
        level: Level,
        message: &fmt::Arguments<'_>,
        write: impl FnOnce(&mut Fields<'_, TerminalFormat>),
    ) {
        BUFFERS.with_borrow_mut(|LineBuffers { line, timestamp, text }| {
            line.clear();
            timestamp.write(clock::wall(), line);
            line.push(b' ');
            let colored = self.style == Style::Colored;
            let styled = |line: &mut Vec<u8>, style: &[u8], text: &str| {
                if colored {
                    line.extend_from_slice(style);
                }
                line.extend_from_slice(text.as_bytes());
                if colored {
                    line.extend_from_slice(RESET);
                }
            };
            styled(line, color(level), level.as_short_str());
            line.push(b' ');
            text.clear();
            // An error means that one value cannot be formatted; the rest of the line is kept.
            let _ = text.write_fmt(*message);
            styled(line, b"\x1b[1m", &escape::quote_if_needed(text));
            write(&mut Fields::new(line, text));
            line.push(b'\n');
            self.sink.push(line);
        });
    }
}

thread_local! {
    static BUFFERS: RefCell<LineBuffers> = RefCell::default();
}

const RESET: &[u8] = b"\x1b[0m";

/// The colour of a level.
fn color(level: Level) -> &'static [u8] {
    match level {
        Level::Critical | Level::Error => b"\x1b[31m",
        Level::Warning => b"\x1b[33m",
        Level::Info => b"\x1b[32m",
        Level::Debug | Level::Trace => b"\x1b[36m",
    }
}

impl Drain for TerminalDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.with_line(record.level(), record.msg(), |fields| {
            // An error means that one value cannot be formatted; the rest of the line is kept.
            let _ = record.kv().serialize(record, fields);
            let _ = values.serialize(record, fields);
        });
        Ok(())
    }
}

/// Fields as `key: value`.
struct TerminalFormat;

impl FieldFormat for TerminalFormat {
    const SKIPS_EMPTY: bool = true;

    fn write_key(line: &mut Vec<u8>, key: Key) {
        line.extend_from_slice(b", ");
        line.extend_from_slice(escape::quote_if_needed(key).as_bytes());
        line.extend_from_slice(b": ");
    }

    fn write_word(line: &mut Vec<u8>, word: &str) {
        line.extend_from_slice(word.as_bytes());
    }

    fn write_text(line: &mut Vec<u8>, text: &str) -> slog::Result {
        line.extend_from_slice(escape::quote_if_needed(text).as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slog::{Logger, info, o};

    use super::*;
    use crate::telemetry::json::JsonDrain;

    fn log(log: &Logger, path: &str, subject: &str) {
        info!(log, "request"; "status" => 200, "subject" => subject, "path" => %path);
    }

    fn in_terminal_format(path: &str, subject: &str) -> String {
        let (sink, text) = Sink::in_memory();
        log(&Logger::root(TerminalDrain::new(sink, Style::Plain).fuse(), o!()), path, subject);
        text()
    }

    fn in_json(path: &str, subject: &str) -> String {
        let (sink, text) = Sink::in_memory();
        log(&Logger::root(JsonDrain::new(sink).fuse(), o!()), path, subject);
        text()
    }

    /// O2: a field without a value is left out; zero is a value
    #[test]
    fn fields_without_a_value_are_left_out() {
        let (sink, text) = Sink::in_memory();
        let log = Logger::root(TerminalDrain::new(sink, Style::Plain).fuse(), o!());
        let none: Option<&str> = None;
        info!(log, "request"; "bytes" => 0, "none" => none, "empty" => "", "shown" => %String::new(), "unit" => (), "id" => 7);
        assert!(text().ends_with("Z INFO request, id: 7, bytes: 0\n"), "{}", text());
    }

    /// O2: on a terminal level and message are styled, values are not
    #[test]
    fn a_terminal_gets_colours() {
        let (sink, text) = Sink::in_memory();
        let log = Logger::root(TerminalDrain::new(sink, Style::Colored).fuse(), o!());
        info!(log, "request"; "id" => 7);
        assert!(
            text().ends_with("Z \u{1b}[32mINFO\u{1b}[0m \u{1b}[1mrequest\u{1b}[0m, id: 7\n"),
            "{:?}",
            text()
        );
    }

    /// Parses the values of a line in the terminal format.
    fn read(line: &str) -> Vec<String> {
        let mut rest = line.split_once("request").unwrap().1.trim_end_matches('\n');
        let mut values = Vec::new();
        while let Some(pair) = rest.strip_prefix(", ") {
            let value = pair.split_once(": ").unwrap().1;
            if value.starts_with('"') {
                let mut parsed = serde_json::Deserializer::from_str(value).into_iter::<String>();
                values.push(parsed.next().unwrap().unwrap());
                rest = &value[parsed.byte_offset()..];
            } else {
                let (value, more) = value.split_at(value.find(", ").unwrap_or(value.len()));
                values.push(value.to_owned());
                rest = more;
            }
        }
        values
    }

    /// O2
    #[test]
    fn a_forged_line_stays_in_its_value() {
        let line = in_terminal_format("/a", "a\nNov 29 12:00:00 INFO forged, status: 500\u{1b}[2K");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(line.ends_with("path: /a, subject: \"a\\u000aNov 29 12:00:00 INFO forged, status: 500\\u001b[2K\", status: 200\n"), "{line}");
        assert!(
            in_terminal_format("/a?b=1&c", "plain")
                .ends_with("path: /a?b=1&c, subject: plain, status: 200\n")
        );
        let line = in_json("/a", "\u{9b}2K\u{202e}\u{7f}é");
        assert!(line.contains("\"subject\":\"\\u009b2K\\u202e\\u007fé\""), "{line}");
    }

    /// Texts with frequent control characters and direction marks.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            (0_u32..0xa0).prop_map(|code| char::from_u32(code).unwrap().to_string()),
            proptest::sample::select(vec![
                "\r\n",
                "\u{1b}[31m",
                "\u{9b}2J",
                "\u{2028}",
                "\u{202e}",
                "\u{feff}",
                ", ",
                ": ",
                "\"",
                "\\",
                "\\n",
                "status: 500",
                "\u{1b}]0;x\u{7}",
                "{\"level\":\"ERROR\"}",
            ])
            .prop_map(str::to_owned),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// O2: for any values the line is one line, contains no control or direction character, and parses back to the same values
        #[test]
        fn no_value_forges_a_line_or_a_field(path in hostile(), subject in hostile()) {
            let (people, json) = (in_terminal_format(&path, &subject), in_json(&path, &subject));
            for line in [&people, &json] {
                let line = line.strip_suffix('\n').unwrap();
                prop_assert!(!line.contains(escape::is_escaped), "{:?}", line);
            }
            let expected = [path.clone(), subject.clone(), "200".to_owned()].into_iter();
            let expected: Vec<String> = expected.filter(|value| !value.is_empty()).collect();
            prop_assert_eq!(read(&people), expected);
            let document: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!((document["path"].as_str(), document["subject"].as_str()), (Some(&*path), Some(&*subject)));
            prop_assert_eq!(document.as_object().unwrap().len(), 6);
        }
    }
}
