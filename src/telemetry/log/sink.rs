//! The bounded buffer between the threads that log and the writer thread.
//!
//! `push` appends to memory and never waits for the output. A line that does not fit is dropped and counted.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::telemetry::log::stats::LogStats;

pub(super) const BUFFER_BYTES_MAX: usize = 8 << 20;
const WAKE_AT_BYTES: usize = 256 << 10;
/// Capacity that a buffer keeps after a write; a larger one is freed.
pub(super) const KEPT_BYTES_MAX: usize = 2 * WAKE_AT_BYTES;
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// The writer waits at most this long for a line. It also measures the disk once a second.
const IDLE_WAIT: Duration = Duration::from_millis(500);

#[derive(Default)]
struct BufferState {
    lines: Vec<u8>,
    /// The writer thread waits for a line.
    awaits_line: bool,
    reopen: bool,
    /// The pipe that the writer thread writes to from now on.
    forward: Option<OwnedFd>,
    ended: bool,
    /// The writer thread has written everything and stopped.
    written: bool,
}

/// Lines that wait for the writer thread, and requests to it.
#[derive(Default)]
pub(super) struct LogBuffer {
    pending: Mutex<BufferState>,
    wake: Condvar,
    written: Condvar,
}

/// Next command for the writer thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriterCommand {
    /// Write the lines, then reopen the file if requested.
    Write { reopen: bool },
    /// Stop: the log has ended and nothing is left.
    Stop,
}

impl LogBuffer {
    fn lock(&self) -> MutexGuard<'_, BufferState> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a line. False if the buffer is full.
    fn push(&self, line: &[u8]) -> bool {
        let mut pending = self.lock();
        let before = pending.lines.len();
        if before + line.len() > BUFFER_BYTES_MAX {
            return false;
        }
        pending.lines.extend_from_slice(line);
        let crossed = before < WAKE_AT_BYTES && pending.lines.len() >= WAKE_AT_BYTES;
        let is_awaited = std::mem::take(&mut pending.awaits_line);
        drop(pending);
        if crossed || is_awaited {
            self.wake.notify_one();
        }
        true
    }

    /// Bytes that the writer thread has not accepted yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.lock().lines.len()
    }

    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.wake.notify_one();
    }

    pub(super) fn forward_to(&self, pipe: OwnedFd) {
        self.lock().forward = Some(pipe);
        self.wake.notify_one();
    }

    /// The pipe of the last [`Self::forward_to`], once.
    pub(super) fn take_forward(&self) -> Option<OwnedFd> {
        self.lock().forward.take()
    }

    pub(super) fn shut_down(&self, timeout: Duration) -> bool {
        let mut pending = self.lock();
        pending.ended = true;
        self.wake.notify_one();
        let (pending, _) = self
            .written
            .wait_timeout_while(pending, timeout, |pending| !pending.written)
            .unwrap_or_else(PoisonError::into_inner);
        pending.written
    }

    /// Waits for a line, at most `IDLE_WAIT`, and for further ones, at most `FLUSH_EVERY`. Swaps them into `lines`.
    pub(super) fn wait_for_lines(&self, lines: &mut Vec<u8>) -> WriterCommand {
        let mut pending = self.lock();
        pending.awaits_line = pending.lines.is_empty();
        let mut pending = self.wait(pending, IDLE_WAIT, |pending| pending.lines.is_empty());
        pending.awaits_line = false;
        let is_small = |pending: &BufferState| (1..WAKE_AT_BYTES).contains(&pending.lines.len());
        let mut pending = self.wait(pending, FLUSH_EVERY, is_small);
        let reopen = std::mem::take(&mut pending.reopen);
        if pending.lines.is_empty() && pending.ended && !reopen {
            return WriterCommand::Stop;
        }
        std::mem::swap(lines, &mut pending.lines);
        WriterCommand::Write { reopen }
    }

    /// Waits while the condition holds, at most `limit`. A request to the writer ends the wait.
    fn wait<'a>(
        &self,
        pending: MutexGuard<'a, BufferState>,
        limit: Duration,
        condition: impl Fn(&BufferState) -> bool,
    ) -> MutexGuard<'a, BufferState> {
        let is_requested =
            |pending: &BufferState| pending.ended || pending.reopen || pending.forward.is_some();
        let waits = |pending: &mut BufferState| !is_requested(pending) && condition(pending);
        self.wake.wait_timeout_while(pending, limit, waits).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Called by the writer thread when it stops.
    pub(super) fn mark_stopped(&self) {
        self.lock().written = true;
        self.written.notify_all();
    }
}

/// Input side of the buffer, for the drains.
#[derive(Clone)]
pub(crate) struct Sink {
    buffer: Arc<LogBuffer>,
    stats: Arc<LogStats>,
}

impl Sink {
    pub(super) fn new(buffer: Arc<LogBuffer>, stats: Arc<LogStats>) -> Self {
        Self { buffer, stats }
    }

    /// Appends one line with its line end. If the buffer is full, drops and counts it.
    pub(crate) fn push(&self, line: &[u8]) {
        if !self.buffer.push(line) {
            self.stats.count_dropped();
        }
    }

    /// A separate sink, and a function that returns its lines.
    #[cfg(test)]
    pub(crate) fn in_memory() -> (Self, impl Fn() -> String) {
        let buffer = Arc::new(LogBuffer::default());
        let stats = Arc::new(LogStats::new().unwrap());
        let read = {
            let buffer = Arc::clone(&buffer);
            move || String::from_utf8(buffer.lock().lines.clone()).unwrap()
        };
        (Self::new(buffer, stats), read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X12: a full buffer drops and counts whole new lines, and keeps the buffered ones
    #[test]
    fn lines_that_do_not_fit_are_dropped_and_counted() {
        let buffer = Arc::new(LogBuffer::default());
        let stats = Arc::new(LogStats::new().unwrap());
        let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&stats));
        let line = [b"x".repeat((1 << 20) - 1), b"\n".to_vec()].concat();
        for _ in 0..11 {
            sink.push(&line);
        }
        assert_eq!(stats.lost(), 3);
        let mut lines = Vec::new();
        assert_eq!(buffer.wait_for_lines(&mut lines), WriterCommand::Write { reopen: false });
        assert_eq!(lines.len(), 8 << 20);
    }

    /// O2: a line ends the wait of an idle writer, which has it a moment later
    #[test]
    fn a_line_wakes_an_idle_writer() {
        let buffer = Arc::new(LogBuffer::default());
        let writer = Arc::clone(&buffer);
        let waiting = std::thread::spawn(move || {
            let mut lines = Vec::new();
            while lines.is_empty() {
                writer.wait_for_lines(&mut lines);
            }
            lines
        });
        while !buffer.lock().awaits_line {
            std::thread::yield_now();
        }
        assert!(buffer.push(b"a\n"));
        assert_eq!(waiting.join().unwrap(), b"a\n");
    }

    /// G4: the end of the log waits no longer than its timeout
    #[test]
    fn the_end_does_not_wait_for_a_blocked_writer() {
        let buffer = LogBuffer::default();
        assert!(!buffer.shut_down(Duration::from_millis(20)));
        buffer.mark_stopped();
        assert!(buffer.shut_down(Duration::from_secs(3600)));
    }
}
