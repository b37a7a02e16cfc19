//! Reading recorded logs: files, lines, fields, and the order of requests.
//!
//! `source.rs` reads one file, plain or compressed. `lines.rs` has the loop over its lines, `json.rs` and `text.rs` parse the two
//! formats of the log. `reorder.rs` puts the
//! requests of one file in the order of their starts, and `merge.rs` those of several files. `written_order.rs` reads the lines of several
//! files in the order in which they were written. Memory is bounded, whatever the size of a file.

pub(crate) mod counts;
mod json;
pub(crate) mod line;
mod lines;
pub(crate) mod merge;
pub(crate) mod reorder;
pub(crate) mod source;
mod text;
pub(crate) mod written_order;

use crate::replay::log::line::{LineError, LogLine};

/// Parses a line in either format.
pub(crate) fn parse_line(line: &[u8], keeps_other_fields: bool) -> Result<LogLine<'_>, LineError> {
    match line.first() {
        Some(b'{') => json::parse(line, keeps_other_fields),
        _ => text::parse(line, keeps_other_fields),
    }
}
