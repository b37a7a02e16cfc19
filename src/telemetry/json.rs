//! slog records as lines of JSON.
//!
//! A line is serialized into a reusable buffer of the thread, because the access log has a high rate. Strings are escaped (`escape.rs`), so
//! client input can neither end a line nor forge a field (O2).

use std::cell::RefCell;

use slog::{Drain, KV, Key, Level, Never, OwnedKVList, Record, Serializer};
use tidegate_actors::clock;

use crate::telemetry::escape;
use crate::telemetry::fields::{FieldFormat, Fields, Line, LineBuffers, LineFields};
use crate::telemetry::log::Sink;

/// Writes records to the sink.
pub(crate) struct JsonDrain {
    sink: Sink,
}

impl JsonDrain {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink }
    }

    /// Writes a line without slog's serializer.
    pub(crate) fn write(&self, line: &Line<'_, impl LineFields>) {
        self.with_line(line.level, |fields| {
            // An error means that the text cannot be written; the rest of the line is kept.
            let _ = fields.emit_str("msg", line.message);
            line.fields.write(fields);
        });
    }

    /// Writes a line with its time and level, and the fields that `write` adds.
    fn with_line(&self, level: Level, write: impl FnOnce(&mut Fields<'_, JsonFormat>)) {
        BUFFERS.with_borrow_mut(|LineBuffers { line, timestamp, text }| {
            line.clear();
            line.extend_from_slice(b"{\"ts\":\"");
            timestamp.write(clock::wall(), line);
            line.extend_from_slice(b"\",\"level\":\"");
            line.extend_from_slice(level.as_str().as_bytes());
            line.push(b'"');
            write(&mut Fields::new(line, text));
            line.extend_from_slice(b"}\n");
            self.sink.push(line);
        });
    }
}

thread_local! {
    static BUFFERS: RefCell<LineBuffers> = RefCell::default();
}

impl Drain for JsonDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.with_line(record.level(), |fields| {
            // An error means that one value cannot be serialized; the rest of the line is kept.
            let _ = fields.emit_arguments("msg", record.msg());
            let _ = record.kv().serialize(record, fields);
            let _ = values.serialize(record, fields);
        });
        Ok(())
    }
}

/// Fields as JSON members.
struct JsonFormat;

impl FieldFormat for JsonFormat {
    const SKIPS_EMPTY: bool = false;

    // Keys of access lines are constants, and the copy of a constant is a move of a register or two.
    #[inline(always)]
    fn write_key(line: &mut Vec<u8>, key: Key) {
        line.reserve(key.len() + 4);
        line.extend_from_slice(b",\"");
        line.extend_from_slice(key.as_bytes());
        line.extend_from_slice(b"\":");
    }

    #[inline]
    fn write_word(line: &mut Vec<u8>, word: &str) {
        line.reserve(word.len() + 2);
        line.push(b'"');
        line.extend_from_slice(word.as_bytes());
        line.push(b'"');
    }

    fn write_text(line: &mut Vec<u8>, text: &str) -> slog::Result {
        Ok(escape::write_json_string(text, line)?)
    }
}
