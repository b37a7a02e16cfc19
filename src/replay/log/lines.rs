//! The loop over the lines of one log, which counts them.

use std::ops::ControlFlow;

use crate::replay::log::counts::LineCounts;
use crate::replay::log::line::{LineKind, LogLine};
use crate::replay::log::parse_line;
use crate::replay::log::source::{LineReader, NextLine};

/// Reads lines and gives those that can be used to `add`, until it breaks or the log ends. Returns whether the log has ended. Lines
/// other than access lines keep their fields if `keeps_other_fields` is set.
pub(super) fn read_lines(
    reader: &mut LineReader,
    keeps_other_fields: bool,
    counts: &mut LineCounts,
    mut add: impl FnMut(&LogLine<'_>) -> ControlFlow<()>,
) -> bool {
    loop {
        let line = match reader.next_line() {
            NextLine::End => return true,
            NextLine::TooLong => {
                counts.lines += 1;
                counts.too_long += 1;
                continue;
            }
            NextLine::Line(line) => line,
        };
        counts.lines += 1;
        let line = match parse_line(line, keeps_other_fields) {
            Ok(line) => line,
            Err(error) => {
                counts.count_error(error);
                continue;
            }
        };
        match line.kind {
            LineKind::Request(_) => counts.requests += 1,
            LineKind::Other(_) => counts.other_messages += 1,
        }
        if add(&line).is_break() {
            return false;
        }
    }
}
