//! The fields of a log line, in any format, and the reusable line buffers of a thread.

use std::fmt::{self, Write as _};
use std::marker::PhantomData;

use slog::{Key, Serializer};

use crate::telemetry::timestamp::TimestampFormatter;

/// How a format writes a key and a text.
pub(crate) trait FieldFormat {
    /// Whether a field with an empty text is left out.
    const SKIPS_EMPTY: bool;

    fn write_key(line: &mut Vec<u8>, key: Key);

    /// # Errors
    /// The text cannot be written.
    fn write_text(line: &mut Vec<u8>, text: &str) -> slog::Result;
}

/// Reusable buffers of a thread.
#[derive(Default)]
pub(crate) struct LineBuffers {
    pub(crate) line: Vec<u8>,
    pub(crate) timestamp: TimestampFormatter,
    pub(crate) text: String,
}

/// Appends fields to a line.
pub(crate) struct Fields<'a, F> {
    line: &'a mut Vec<u8>,
    text: &'a mut String,
    format: PhantomData<F>,
}

impl<'a, F: FieldFormat> Fields<'a, F> {
    pub(crate) fn new(line: &'a mut Vec<u8>, text: &'a mut String) -> Self {
        Self { line, text, format: PhantomData }
    }

    fn write_number(&mut self, key: Key, number: impl itoa::Integer) -> slog::Result {
        F::write_key(self.line, key);
        self.line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        Ok(())
    }
}

impl<F: FieldFormat> Serializer for Fields<'_, F> {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        if let Some(text) = value.as_str() {
            return self.emit_str(key, text);
        }
        self.text.clear();
        self.text.write_fmt(*value)?;
        if !F::SKIPS_EMPTY || !self.text.is_empty() {
            F::write_key(self.line, key);
            F::write_text(self.line, self.text)?;
        }
        Ok(())
    }

    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        if !F::SKIPS_EMPTY || !value.is_empty() {
            F::write_key(self.line, key);
            F::write_text(self.line, value)?;
        }
        Ok(())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        self.write_number(key, value)
    }

    fn emit_u32(&mut self, key: Key, value: u32) -> slog::Result {
        self.write_number(key, value)
    }

    fn emit_u16(&mut self, key: Key, value: u16) -> slog::Result {
        self.write_number(key, value)
    }

    fn emit_usize(&mut self, key: Key, value: usize) -> slog::Result {
        self.write_number(key, value)
    }

    fn emit_i64(&mut self, key: Key, value: i64) -> slog::Result {
        self.write_number(key, value)
    }

    fn emit_f64(&mut self, key: Key, value: f64) -> slog::Result {
        if !value.is_finite() {
            return Ok(());
        }
        self.text.clear();
        write!(self.text, "{value}")?;
        F::write_key(self.line, key);
        self.line.extend_from_slice(self.text.as_bytes());
        Ok(())
    }

    fn emit_bool(&mut self, key: Key, value: bool) -> slog::Result {
        F::write_key(self.line, key);
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
