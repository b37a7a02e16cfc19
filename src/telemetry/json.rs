//! slog records as lines of JSON.
//!
//! A line is serialized into a reusable buffer of the thread, because the access log has a high rate. Strings are escaped (`escape.rs`), so
//! client input can neither end a line nor forge a field (O2).

use std::cell::RefCell;

use slog::{Drain, KV, Key, Never, OwnedKVList, Record, Serializer};
use tidegate_actors::clock;

use crate::telemetry::escape;
use crate::telemetry::fields::{FieldFormat, Fields, LineBuffers};
use crate::telemetry::log::Sink;

/// Writes records to the sink.
pub(crate) struct JsonDrain {
    sink: Sink,
}

impl JsonDrain {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink }
    }
}

thread_local! {
    static BUFFERS: RefCell<LineBuffers> = RefCell::default();
}

impl Drain for JsonDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        BUFFERS.with_borrow_mut(|LineBuffers { line, timestamp, text }| {
            line.clear();
            line.extend_from_slice(b"{\"ts\":\"");
            timestamp.write(clock::wall(), line);
            line.extend_from_slice(b"\",\"level\":\"");
            line.extend_from_slice(record.level().as_str().as_bytes());
            line.push(b'"');
            let mut fields = Fields::<JsonFormat>::new(line, text);
            // An error means that one value cannot be serialized; the rest of the line is kept.
            let _ = fields.emit_arguments("msg", record.msg());
            let _ = record.kv().serialize(record, &mut fields);
            let _ = values.serialize(record, &mut fields);
            line.extend_from_slice(b"}\n");
            self.sink.push(line);
        });
        Ok(())
    }
}

/// Fields as JSON members.
struct JsonFormat;

impl FieldFormat for JsonFormat {
    const SKIPS_EMPTY: bool = false;

    fn write_key(line: &mut Vec<u8>, key: Key) {
        line.extend_from_slice(b",\"");
        line.extend_from_slice(key.as_bytes());
        line.extend_from_slice(b"\":");
    }

    fn write_text(line: &mut Vec<u8>, text: &str) -> slog::Result {
        Ok(escape::write_json_string(text, line)?)
    }
}
