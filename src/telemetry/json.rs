//! slog records as lines of JSON, for the access log's rate.
//!
//! A line is serialized into a buffer that the thread keeps, with strings escaped (`escape`), so nothing a
//! client sends can end a line or forge a field (O2).

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::time::SystemTime;

use slog::{Drain, KV, Key, Level, Never, OwnedKVList, Record, Serializer};
use tidegate_actors::clock;

use crate::telemetry::escape;
use crate::telemetry::log::Sink;
use crate::telemetry::stamp::Stamp;

/// Writes records to the sink.
pub(crate) struct JsonDrain {
    sink: Sink,
}

impl JsonDrain {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink }
    }
}

#[derive(Default)]
struct Scratch {
    line: Vec<u8>,
    stamp: Stamp,
    text: String,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Drain for JsonDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.line.clear();
            scratch.stamp(clock::wall());
            scratch.open(record.level());
            let mut fields = Fields { line: &mut scratch.line, text: &mut scratch.text };
            // The only errors are those of values that refuse to be written; the rest of the line stands.
            let _ = fields.emit_arguments("msg", record.msg());
            let _ = record.kv().serialize(record, &mut fields);
            let _ = values.serialize(record, &mut fields);
            scratch.line.extend_from_slice(b"}\n");
            self.sink.push(&scratch.line);
        });
        Ok(())
    }
}

impl Scratch {
    fn stamp(&mut self, now: SystemTime) {
        self.line.extend_from_slice(b"{\"ts\":\"");
        self.stamp.write(now, &mut self.line);
        self.line.push(b'"');
    }

    fn open(&mut self, level: Level) {
        self.line.extend_from_slice(b",\"level\":\"");
        self.line.extend_from_slice(level.as_str().as_bytes());
        self.line.push(b'"');
    }
}

struct Fields<'a> {
    line: &'a mut Vec<u8>,
    text: &'a mut String,
}

impl Fields<'_> {
    fn key(&mut self, key: Key) {
        self.line.extend_from_slice(b",\"");
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
    }

    fn number(&mut self, key: Key, number: impl itoa::Integer) -> slog::Result {
        self.key(key);
        self.line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        Ok(())
    }
}

impl Serializer for Fields<'_> {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        if let Some(text) = value.as_str() {
            return self.emit_str(key, text);
        }
        self.key(key);
        self.text.clear();
        self.text.write_fmt(*value)?;
        escape::json(self.text, self.line)?;
        Ok(())
    }

    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        self.key(key);
        escape::json(value, self.line)?;
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        self.number(key, value)
    }

    fn emit_u32(&mut self, key: Key, value: u32) -> slog::Result {
        self.number(key, value)
    }

    fn emit_u16(&mut self, key: Key, value: u16) -> slog::Result {
        self.number(key, value)
    }

    fn emit_usize(&mut self, key: Key, value: usize) -> slog::Result {
        self.number(key, value)
    }

    fn emit_i64(&mut self, key: Key, value: i64) -> slog::Result {
        self.number(key, value)
    }

    fn emit_bool(&mut self, key: Key, value: bool) -> slog::Result {
        self.key(key);
        self.line.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn emit_none(&mut self, _: Key) -> slog::Result {
        Ok(())
    }

    fn emit_unit(&mut self, _: Key) -> slog::Result {
        Ok(())
    }
}
