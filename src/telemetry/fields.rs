//! The fields of a log line, in any format, and the reusable line buffers of a thread.

use std::fmt::{self, Write as _};
use std::marker::PhantomData;

use slog::{Key, Level, Serializer};

use crate::telemetry::timestamp::TimestampFormatter;

/// The fields of a line that is written without slog's serializer, because it is written often.
pub(crate) trait LineFields {
    /// Writes the fields in their order.
    fn write<F: FieldFormat>(&self, fields: &mut Fields<'_, F>);
}

/// A line that is written without slog's macros.
pub(crate) struct Line<'a, L> {
    pub(crate) level: Level,
    pub(crate) message: &'static str,
    pub(crate) fields: &'a L,
}

/// How a format writes a key and a text.
pub(crate) trait FieldFormat {
    /// Whether a field with an empty text is left out.
    const SKIPS_EMPTY: bool;

    fn write_key(line: &mut Vec<u8>, key: Key);

    /// Writes a text without characters that the format escapes.
    fn write_word(line: &mut Vec<u8>, word: &str);

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

    /// A field with a text.
    #[inline]
    pub(crate) fn text(&mut self, key: &'static str, value: &str) {
        if !F::SKIPS_EMPTY || !value.is_empty() {
            F::write_key(self.line, key);
            // An error means that this value cannot be written; the rest of the line is kept.
            let _ = F::write_text(self.line, value);
        }
    }

    /// A field with a word of the program, or another text that no format escapes: it has letters, digits, `_`, `.` and `:` only.
    #[inline]
    pub(crate) fn word(&mut self, key: &'static str, value: &str) {
        debug_assert!(
            value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:".contains(&byte)),
            "{value}"
        );
        if !F::SKIPS_EMPTY || !value.is_empty() {
            F::write_key(self.line, key);
            F::write_word(self.line, value);
        }
    }

    /// A field with such a word; none is left out.
    #[inline]
    pub(crate) fn optional_word(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.word(key, value);
        }
    }

    /// A field with a text; none is left out.
    #[inline]
    pub(crate) fn optional_text(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A field with a value that is formatted.
    pub(crate) fn display(&mut self, key: &'static str, value: &impl fmt::Display) {
        // An error means that this value cannot be formatted; the rest of the line is kept.
        let _ = self.emit_arguments(key, &format_args!("{value}"));
    }

    /// A field with a number.
    // With the key as a constant, as in `write_key`.
    #[inline(always)]
    pub(crate) fn number(&mut self, key: &'static str, value: impl itoa::Integer) {
        F::write_key(self.line, key);
        write_number(self.line, value);
    }

    /// A field with a number; none is left out.
    #[inline(always)]
    pub(crate) fn optional_number(&mut self, key: &'static str, value: Option<impl itoa::Integer>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }
}

#[inline(never)]
fn write_number(line: &mut Vec<u8>, value: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
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
        self.number(key, value);
        Ok(())
    }

    fn emit_u32(&mut self, key: Key, value: u32) -> slog::Result {
        self.number(key, value);
        Ok(())
    }

    fn emit_u16(&mut self, key: Key, value: u16) -> slog::Result {
        self.number(key, value);
        Ok(())
    }

    fn emit_usize(&mut self, key: Key, value: usize) -> slog::Result {
        self.number(key, value);
        Ok(())
    }

    fn emit_i64(&mut self, key: Key, value: i64) -> slog::Result {
        self.number(key, value);
        Ok(())
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
