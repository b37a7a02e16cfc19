//! The lines of several logs in the order in which they were written.
//!
//! The next line comes from the log with the earliest one. A log is read on while its lines are not later than the next line of the
//! others, so rotated files are read one after the other, and only a line that waits for others is parsed a second time.

use std::ops::ControlFlow;

use crate::replay::log::counts::LineCounts;
use crate::replay::log::line::LogLine;
use crate::replay::log::lines::read_lines;
use crate::replay::log::parse_line;
use crate::replay::log::source::LineReader;

/// Gives all lines to `add`, and returns their counts.
pub(crate) fn read_in_written_order(
    readers: &mut [LineReader],
    add: &mut dyn FnMut(&LogLine<'_>),
) -> LineCounts {
    let mut counts = LineCounts::default();
    // The times of the lines that the readers hold; none for a log that has ended.
    let mut times: Vec<Option<u64>> =
        readers.iter_mut().map(|reader| read_on(reader, None, &mut counts, add)).collect();
    let earliest =
        |times: &[Option<u64>]| times.iter().zip(0..).filter_map(|(time, at)| Some(((*time)?, at))).min();
    while let Some((_, at)) = earliest(&times) {
        times[at] = None;
        let until = earliest(&times).map_or(u64::MAX, |(time, _)| time);
        if let Ok(line) = parse_line(readers[at].line(), true) {
            add(&line);
        }
        times[at] = read_on(&mut readers[at], Some(until), &mut counts, add);
    }
    counts
}

/// Gives the lines up to the time `until` to `add`. Returns the time of the first later line, which the reader then holds.
fn read_on(
    reader: &mut LineReader,
    until: Option<u64>,
    counts: &mut LineCounts,
    add: &mut dyn FnMut(&LogLine<'_>),
) -> Option<u64> {
    let mut later = None;
    read_lines(reader, true, counts, |line| {
        if until.is_none_or(|until| line.written_us > until) {
            later = Some(line.written_us);
            return ControlFlow::Break(());
        }
        add(line);
        ControlFlow::Continue(())
    });
    later
}
