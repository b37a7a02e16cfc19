//! The counts of the lines of all logs.

use serde::Serialize;

use crate::replay::log::line::LineError;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LineCounts {
    /// All lines.
    pub lines: u64,
    /// Access lines that are used.
    pub requests: u64,
    /// Lines with other messages.
    pub other_messages: u64,
    /// Lines that are cut, damaged, or of another format.
    pub malformed: u64,
    /// Access lines without the time that the request took, or with a time of more than a year: of connections that ended before a
    /// request, or damaged.
    pub incomplete: u64,
    /// Lines that are longer than 1 MiB.
    pub too_long: u64,
    /// Requests that came after later ones had been replayed.
    pub late: u64,
    /// Steps of a log's clock backwards.
    pub clock_steps: u64,
}

impl LineCounts {
    /// Counts a line that cannot be used.
    pub(super) fn count_error(&mut self, error: LineError) {
        match error {
            LineError::Malformed => self.malformed += 1,
            LineError::Incomplete => self.incomplete += 1,
        }
    }
}
