//! The log format for people, with everything escaped that comes from elsewhere (O2).
//!
//! slog-term writes messages and values as they are. Here they are collected and escaped before its decorator sees them; what the format
//! itself writes between them (blanks, commas, the line's end) passes.

use std::io::{self, Write};

use slog::{OwnedKVList, Record};
use slog_term::{Decorator, RecordDecorator};

use crate::telemetry::escape;

/// Escapes what it hands to another decorator.
pub(crate) struct Escaping<D>(pub(crate) D);

impl<D: Decorator> Decorator for Escaping<D> {
    fn with_record<F>(&self, record: &Record<'_>, values: &OwnedKVList, write: F) -> io::Result<()>
    where
        F: FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    {
        self.0.with_record(record, values, |inner| {
            let mut escaping = EscapingRecord { inner, part: Part::Layout, text: Vec::new() };
            write(&mut escaping)?;
            escaping.end_part()
        })
    }
}

/// What is being written of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Written by the format itself.
    Layout,
    /// The message, a key or a value.
    Text,
}

struct EscapingRecord<'a> {
    inner: &'a mut dyn RecordDecorator,
    part: Part,
    text: Vec<u8>,
}

impl EscapingRecord<'_> {
    fn end_part(&mut self) -> io::Result<()> {
        if self.part == Part::Text {
            self.inner.write_all(escape::value(&String::from_utf8_lossy(&self.text)).as_bytes())?;
            self.text.clear();
        }
        self.part = Part::Layout;
        Ok(())
    }

    /// Begins a part in the inner decorator's style for it.
    fn begin(
        &mut self,
        part: Part,
        style: impl FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    ) -> io::Result<()> {
        self.end_part()?;
        self.part = part;
        style(self.inner)
    }
}

impl Write for EscapingRecord<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.part {
            Part::Layout => self.inner.write(bytes),
            Part::Text => self.text.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_part()?;
        self.inner.flush()
    }
}

impl RecordDecorator for EscapingRecord<'_> {
    fn reset(&mut self) -> io::Result<()> {
        self.begin(Part::Layout, |inner| inner.reset())
    }

    fn start_whitespace(&mut self) -> io::Result<()> {
        self.begin(Part::Layout, |inner| inner.start_whitespace())
    }

    fn start_msg(&mut self) -> io::Result<()> {
        self.begin(Part::Text, |inner| inner.start_msg())
    }

    fn start_timestamp(&mut self) -> io::Result<()> {
        self.begin(Part::Layout, |inner| inner.start_timestamp())
    }

    fn start_level(&mut self) -> io::Result<()> {
        self.begin(Part::Layout, |inner| inner.start_level())
    }

    fn start_comma(&mut self) -> io::Result<()> {
        self.begin(Part::Layout, |inner| inner.start_comma())
    }

    fn start_key(&mut self) -> io::Result<()> {
        self.begin(Part::Text, |inner| inner.start_key())
    }

    fn start_value(&mut self) -> io::Result<()> {
        self.begin(Part::Text, |inner| inner.start_value())
    }

    fn start_location(&mut self) -> io::Result<()> {
        self.begin(Part::Layout, |inner| inner.start_location())
    }

    fn start_separator(&mut self) -> io::Result<()> {
        self.begin(Part::Layout, |inner| inner.start_separator())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use slog::{Drain, Logger, info, o};
    use slog_term::{FullFormat, PlainSyncDecorator};

    use super::*;
    use crate::telemetry::json::JsonDrain;
    use crate::telemetry::sink;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn log(log: &Logger, path: &str, subject: &str) {
        info!(log, "request"; "status" => 200, "subject" => subject, "path" => %path);
    }

    fn for_people(path: &str, subject: &str) -> String {
        let memory = Memory::default();
        let format = FullFormat::new(Escaping(PlainSyncDecorator::new(memory.clone()))).build();
        log(&Logger::root(format.fuse(), o!()), path, subject);
        memory.text()
    }

    fn in_json(path: &str, subject: &str) -> String {
        let memory = Memory::default();
        let (sink, guard) = sink::start(Box::new(memory.clone())).unwrap();
        log(&Logger::root(JsonDrain::new(sink).fuse(), o!()), path, subject);
        drop(guard);
        memory.text()
    }

    /// The values of a line for people, by a reader that knows nothing but the format.
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
        let line = for_people("/a", "a\nNov 29 12:00:00 INFO forged, status: 500\u{1b}[2K");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(line.ends_with("path: /a, subject: \"a\\u000aNov 29 12:00:00 INFO forged, status: 500\\u001b[2K\", status: 200\n"), "{line}");
        assert!(for_people("/a?b=1&c", "plain").ends_with("path: /a?b=1&c, subject: plain, status: 200\n"));
        let line = in_json("/a", "\u{9b}2K\u{202e}\u{7f}é");
        assert!(line.contains("\"subject\":\"\\u009b2K\\u202e\\u007fé\""), "{line}");
    }

    /// Any text, control characters and marks of direction among it more often than by chance.
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
        /// O2: whatever a value holds, a line is one line, holds no character that acts, and reads back as it was written
        #[test]
        fn no_value_forges_a_line_or_a_field(path in hostile(), subject in hostile()) {
            let (people, json) = (for_people(&path, &subject), in_json(&path, &subject));
            for line in [&people, &json] {
                let line = line.strip_suffix('\n').unwrap();
                prop_assert!(!line.contains(escape::is_escaped), "{:?}", line);
            }
            prop_assert_eq!(read(&people), [path.clone(), subject.clone(), "200".to_owned()]);
            let document: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!((document["path"].as_str(), document["subject"].as_str()), (Some(&*path), Some(&*subject)));
            prop_assert_eq!(document.as_object().unwrap().len(), 6);
        }
    }
}
