//! Puts the requests of one log in the order of their starts.
//!
//! A line is written at the end of its request, so the lines have the order of the ends. Requests wait in cells of a millisecond until no
//! line with an earlier start can follow, that is until lines are written that are younger by `WINDOW_US`, or until the buffer is full. A
//! request that comes later than that is late: it is counted, and given at once.

use std::collections::BTreeMap;

use crate::replay::log::line::TIME_MAX_US;
use crate::replay::request::RecordedRequest;

/// How long a request waits for earlier ones. Only requests that last longer can be late, unless the buffer is full.
const WINDOW_US: u64 = 30_000_000;
/// A step of the clock backwards beyond this is a change of the clock and no disorder.
const CLOCK_STEP_US: u64 = 60_000_000;
const CELL_US: u64 = 1_000;

/// The requests of one log that wait for their turn.
#[derive(Debug)]
pub(crate) struct ReorderBuffer {
    cells: BTreeMap<u64, Vec<RecordedRequest>>,
    len: usize,
    len_max: usize,
    /// The requests to give next, the next one last.
    ready: Vec<RecordedRequest>,
    /// The first cell that has not been given.
    next_cell: u64,
    /// The latest time of writing.
    written_until_us: u64,
    /// What is added to all times because the clock stepped backwards.
    shift_us: u64,
    pub(crate) late: u64,
    pub(crate) clock_steps: u64,
}

impl ReorderBuffer {
    /// A buffer for at most `len_max` requests.
    pub(crate) fn new(len_max: usize) -> Self {
        Self {
            cells: BTreeMap::new(),
            len: 0,
            len_max,
            ready: Vec::new(),
            next_cell: 0,
            written_until_us: 0,
            shift_us: 0,
            late: 0,
            clock_steps: 0,
        }
    }

    /// Adds a request with the time at which its line was written.
    pub(crate) fn push(&mut self, mut request: RecordedRequest, written_us: u64) {
        let mut written_us = written_us.saturating_add(self.shift_us).min(TIME_MAX_US);
        if written_us.saturating_add(CLOCK_STEP_US) < self.written_until_us {
            self.clock_steps += 1;
            self.shift_us = self.shift_us.saturating_add(self.written_until_us - written_us);
            written_us = self.written_until_us;
        }
        self.written_until_us = self.written_until_us.max(written_us);
        request.start_us = request.start_us.saturating_add(self.shift_us).min(TIME_MAX_US);
        self.len += 1;
        let cell = request.start_us / CELL_US;
        if cell < self.next_cell {
            self.late += 1;
            self.ready.push(request);
        } else {
            self.cells.entry(cell).or_default().push(request);
        }
    }

    /// Whether a further line is needed before the next request can be given.
    pub(crate) fn needs_line(&self) -> bool {
        if !self.ready.is_empty() {
            return false;
        }
        let Some((cell, _)) = self.cells.first_key_value() else { return true };
        let is_old =
            cell.saturating_add(1).saturating_mul(CELL_US).saturating_add(WINDOW_US) <= self.written_until_us;
        !is_old && self.len < self.len_max
    }

    /// The start of the next request.
    pub(crate) fn peek(&mut self) -> Option<u64> {
        if self.ready.is_empty() {
            let (cell, mut requests) = self.cells.pop_first()?;
            // The order of the lines decides between equal starts.
            requests.sort_by_key(|request| request.start_us);
            requests.reverse();
            (self.ready, self.next_cell) = (requests, cell + 1);
        }
        self.ready.last().map(|request| request.start_us)
    }

    /// Takes the next request.
    pub(crate) fn pop(&mut self) -> Option<RecordedRequest> {
        self.peek()?;
        self.len -= 1;
        self.ready.pop()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replay::log::line::RequestFields;
    use crate::replay::names::LogNames;

    fn request(start_us: u64, total_us: u64) -> (RecordedRequest, u64) {
        let fields = RequestFields { total_us: Some(total_us), ..RequestFields::default() };
        let written = start_us + total_us;
        (RecordedRequest::new(&fields, written, &mut LogNames::default()), written)
    }

    /// Reads the lines as a log, and returns the starts in the order in which the requests leave the buffer.
    fn drain(lines: &[(RecordedRequest, u64)], len_max: usize) -> (Vec<u64>, ReorderBuffer) {
        let mut buffer = ReorderBuffer::new(len_max);
        let mut given = Vec::new();
        for (request, written) in lines {
            buffer.push(*request, *written);
            assert!(buffer.len <= len_max);
            while !buffer.needs_line() {
                given.extend(buffer.pop().map(|request| request.start_us));
            }
        }
        while let Some(request) = buffer.pop() {
            given.push(request.start_us);
        }
        (given, buffer)
    }

    /// A request that lasted longer than the window is late and not lost.
    #[test]
    fn a_very_long_request_is_late() {
        let second = 1_000_000;
        let mut lines: Vec<_> = (100..200).map(|at| request(at * second, second / 2)).collect();
        lines.push(request(110 * second, 92 * second));
        let (given, buffer) = drain(&lines, 1_000);
        assert_eq!((given.len(), buffer.late), (101, 1));
    }

    /// A clock that steps back by an hour is counted, and time goes on.
    #[test]
    fn a_clock_step_is_no_disorder() {
        let second = 1_000_000;
        let hour = 3600 * second;
        let mut lines: Vec<_> = (0..10).map(|at| request(2 * hour + at * second, 10)).collect();
        lines.extend((0..10).map(|at| request(hour + at * second, 10)));
        let (given, buffer) = drain(&lines, 1_000);
        assert_eq!((buffer.clock_steps, buffer.late, given.len()), (1, 0, 20));
        assert!(given.is_sorted() && given[19] - given[0] == 18 * second, "{given:?}");
    }

    /// A clock that steps back again and again reaches the end of time, and nothing overflows.
    #[test]
    fn the_end_of_time_fits() {
        let early = (0..10).map(|at| request(at, 1));
        let lines: Vec<_> = std::iter::once(request(u64::MAX - 10, 1)).chain(early).collect();
        let (given, buffer) = drain(&lines, 1_000);
        assert_eq!((given.len(), given.last(), buffer.clock_steps), (11, Some(&TIME_MAX_US), 1));
    }

    proptest! {
        /// Requests shorter than the window come in the order of their starts, and none is lost, whatever the size of the buffer.
        #[test]
        fn starts_are_in_order(
            steps in prop::collection::vec((0u64..3_000_000, 0u64..29_000_000), 1..300), len_max in 2usize..400,
        ) {
            let mut start = 1_000_000_000;
            let mut lines = Vec::new();
            for (pause, total) in steps {
                start += pause;
                lines.push(request(start, total));
            }
            lines.sort_by_key(|(_, written)| *written);
            let (given, buffer) = drain(&lines, len_max);
            prop_assert_eq!(given.len(), lines.len());
            if len_max > lines.len() {
                prop_assert!(given.is_sorted() && buffer.late == 0, "{:?}", given);
            } else {
                prop_assert!(given.is_sorted() || buffer.late > 0);
            }
        }
    }
}
