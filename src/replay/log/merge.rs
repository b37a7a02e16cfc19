//! The requests of several logs in the order of their starts, and the counts of what was read.
//!
//! The logs are open at the same time, and the one with the earliest next request gives it. So rotated files can be given in any order, and
//! the logs of several gateways mix as they were written. All logs share one bound of memory.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;

use serde::Serialize;

use crate::replay::log::counts::LineCounts;
use crate::replay::log::line::LineKind;
use crate::replay::log::lines::read_lines;
use crate::replay::log::reorder::ReorderBuffer;
use crate::replay::log::source::{LineReader, OpenError};
use crate::replay::names::LogNames;
use crate::replay::request::RecordedRequest;

/// Most logs that are open at a time.
const LOGS_MAX: usize = 512;
/// Requests that wait for their turn in all logs together.
const BUFFERED_MAX: usize = 262_144;

/// A log that could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogProblem {
    /// The log.
    pub log: String,
    /// What is wrong, and the remedy.
    pub problem: String,
}

/// Logs that have been opened.
pub(crate) struct OpenLogs {
    pub(crate) readers: Vec<LineReader>,
    /// The bytes that have been read so far.
    bytes: Rc<Cell<u64>>,
    /// The bytes of all logs, if it is known.
    size: Option<u64>,
}

/// Opens logs.
pub(crate) fn open_logs(paths: &[PathBuf]) -> Result<OpenLogs, OpenError> {
    if paths.len() > LOGS_MAX {
        return Err(OpenError::TooMany { count: paths.len(), max: LOGS_MAX });
    }
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(OpenError::StdinTwice);
    }
    let bytes = Rc::new(Cell::new(0));
    let mut readers = Vec::new();
    let mut size = Some(0);
    for path in paths {
        let (reader, own_size) = LineReader::open(path, &bytes)?;
        size = size.zip(own_size).map(|(sum, own)| sum + own);
        readers.push(reader);
    }
    Ok(OpenLogs { readers, bytes, size })
}

/// One log.
struct LogStream {
    reader: LineReader,
    buffer: ReorderBuffer,
    is_ended: bool,
}

impl LogStream {
    /// Reads lines until the next request is known, or the log ends.
    fn fill(&mut self, names: &mut LogNames, counts: &mut LineCounts) {
        if self.is_ended || !self.buffer.needs_line() {
            return;
        }
        let buffer = &mut self.buffer;
        self.is_ended = read_lines(&mut self.reader, false, counts, |line| {
            if let LineKind::Request(fields) = &line.kind {
                buffer.push(RecordedRequest::new(fields, line.written_us, names), line.written_us);
            }
            if buffer.needs_line() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
}

/// The requests of several logs.
pub(crate) struct MergedLog {
    streams: Vec<LogStream>,
    pub(crate) names: LogNames,
    counts: LineCounts,
    bytes: Rc<Cell<u64>>,
    /// The bytes of all logs, if it is known.
    pub(crate) size: Option<u64>,
}

impl MergedLog {
    /// Opens the logs.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, OpenError> {
        let OpenLogs { readers, bytes, size } = open_logs(paths)?;
        let buffered_max = BUFFERED_MAX / readers.len().max(1);
        let stream = |reader| LogStream { reader, buffer: ReorderBuffer::new(buffered_max), is_ended: false };
        let streams = readers.into_iter().map(stream).collect();
        Ok(Self { streams, names: LogNames::default(), counts: LineCounts::default(), bytes, size })
    }

    /// The next request by its start.
    pub(crate) fn next_request(&mut self) -> Option<RecordedRequest> {
        let Self { streams, names, counts, .. } = self;
        let mut first: Option<(u64, usize)> = None;
        for (at, stream) in streams.iter_mut().enumerate() {
            stream.fill(names, counts);
            if let Some(start) = stream.buffer.peek()
                && first.is_none_or(|(earliest, _)| start < earliest)
            {
                first = Some((start, at));
            }
        }
        streams[first?.1].buffer.pop()
    }

    /// Bytes that have been read.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn counts(&self) -> LineCounts {
        let sum = |of: fn(&ReorderBuffer) -> u64| self.streams.iter().map(|stream| of(&stream.buffer)).sum();
        LineCounts {
            late: sum(|buffer| buffer.late),
            clock_steps: sum(|buffer| buffer.clock_steps),
            ..self.counts
        }
    }

    /// The logs that could not be read to their ends.
    pub(crate) fn problems(&self) -> Vec<LogProblem> {
        problems(self.streams.iter().map(|stream| &stream.reader))
    }
}

/// The problems of these logs.
pub(crate) fn problems<'a>(readers: impl Iterator<Item = &'a LineReader>) -> Vec<LogProblem> {
    let problem = |reader: &LineReader| {
        let problem = reader.problem.clone()?;
        Some(LogProblem { log: reader.name.clone(), problem })
    };
    readers.filter_map(problem).collect()
}
