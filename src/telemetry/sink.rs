//! Where log lines go: a bounded buffer and one thread that writes it out.
//!
//! A slow disk or a blocked pipe must not hold up a worker, so a line is only ever appended to memory. When the
//! writer cannot keep up, whole lines are dropped and counted; the count is written as soon as writing works again.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const BUFFER_BYTES_MAX: usize = 8 << 20;
const WAKE_AT_BYTES: usize = 256 << 10;
/// What a buffer may keep when it was written: one that a slow disk made grow is not to stay that large.
const KEPT_BYTES_MAX: usize = 2 * WAKE_AT_BYTES;
const FLUSH_EVERY: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    dropped: u64,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
}

/// The lines' way in. Dropping the last guard flushes what is left.
#[derive(Clone)]
pub(crate) struct Sink {
    shared: Arc<Shared>,
}

/// Keeps the writer thread; its drop flushes and joins it.
pub struct SinkGuard {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// Starts the writer thread.
pub(crate) fn start(mut out: Box<dyn Write + Send>) -> io::Result<(Sink, SinkGuard)> {
    let shared = Arc::new(Shared::default());
    let for_writer = Arc::clone(&shared);
    let writer = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
        let mut lines = Vec::new();
        while for_writer.take(&mut lines) {
            // Nothing can be logged about a log that cannot be written.
            let _ = out.write_all(&lines).and_then(|()| out.flush()).is_ok();
            lines.clear();
            lines.shrink_to(KEPT_BYTES_MAX);
        }
    })?;
    Ok((Sink { shared: Arc::clone(&shared) }, SinkGuard { shared, writer: Some(writer) }))
}

impl Sink {
    /// Appends one line, or drops it if the writer is that far behind.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.lines.len() + line.len() > BUFFER_BYTES_MAX {
            pending.dropped += 1;
            return;
        }
        let before = pending.lines.len();
        pending.lines.extend_from_slice(line);
        let crossed = before < WAKE_AT_BYTES && pending.lines.len() >= WAKE_AT_BYTES;
        drop(pending);
        if crossed {
            self.shared.wake.notify_one();
        }
    }
}

impl Shared {
    /// Waits for lines and swaps them out; false once the log has ended and nothing is left.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut pending, _) = self
            .wake
            .wait_timeout_while(pending, FLUSH_EVERY, |pending| {
                !pending.ended && pending.lines.len() < WAKE_AT_BYTES
            })
            .unwrap_or_else(PoisonError::into_inner);
        if pending.lines.is_empty() && pending.ended {
            return false;
        }
        std::mem::swap(lines, &mut pending.lines);
        let dropped = std::mem::take(&mut pending.dropped);
        drop(pending);
        if dropped > 0 {
            lines.extend_from_slice(
                format!("{{\"level\":\"WARN\",\"msg\":\"log lines dropped\",\"count\":{dropped}}}\n")
                    .as_bytes(),
            );
        }
        true
    }
}

impl Drop for SinkGuard {
    fn drop(&mut self) {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.wake.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// O2
    #[test]
    fn every_line_is_written_by_the_time_the_guard_is_dropped() {
        let memory = Memory::default();
        let (sink, guard) = start(Box::new(memory.clone())).unwrap();
        for i in 0..1000 {
            sink.push(format!("{i}\n").as_bytes());
        }
        drop(guard);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text.lines().map(|line| line.parse::<u32>().unwrap()).collect::<Vec<_>>(),
            (0..1000).collect::<Vec<_>>()
        );
    }
}
