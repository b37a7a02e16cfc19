//! The log of a successor receives the lines of its predecessor from a pipe, until the predecessor has ended.
//!
//! A thread appends whole lines to the buffer of the own log, where they count like own lines: one that does not fit is lost and counted.
//! The last line of a predecessor that ended within it is written with a line end. When this process ends first, what is in the pipe is
//! received before; the predecessor takes back what comes later, with the line that was received in part (`forward.rs`).

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, pipe};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;

use crate::telemetry::log::forward::CANCEL;
use crate::telemetry::log::sink::Sink;

/// Bytes of one read: a pipe's capacity, so that a read ends with a line.
const READ_BYTES_MAX: usize = 64 << 10;
/// The longest line. The rest of a longer one is not written.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Reads after the end was requested. A predecessor that writes on does not delay it.
const LAST_READS_MAX: usize = 32;

/// The threads that receive.
#[derive(Default)]
pub(super) struct Receivers(Mutex<Vec<Receiver>>);

struct Receiver {
    /// Closed to end the thread.
    stop: PipeWriter,
    /// Disconnected when the thread has ended.
    ended: mpsc::Receiver<()>,
}

impl Receivers {
    /// Starts a thread that receives from this pipe.
    pub(super) fn start(&self, source: OwnedFd, sink: Sink) -> io::Result<()> {
        ioctl_fionbio(&source, true)?;
        let ((stopped, stop), (end, ended)) = (pipe()?, mpsc::channel());
        let receiving = Receiving { source: source.into(), lines: LineBuffer::new(sink) };
        std::thread::Builder::new().name("log-receiver".to_owned()).spawn(move || {
            receiving.run(&stopped);
            drop::<mpsc::Sender<()>>(end);
        })?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|receiver| receiver.ended.try_recv() == Err(mpsc::TryRecvError::Empty));
        all.push(Receiver { stop, ended });
        Ok(())
    }

    /// Receives what is in the pipes, and closes them. Waits at most `timeout` for each.
    pub(super) fn stop(&self, timeout: Duration) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for Receiver { stop, ended } in all {
            drop(stop);
            let _ = ended.recv_timeout(timeout);
        }
    }
}

/// The state of a thread that receives.
struct Receiving {
    source: File,
    lines: LineBuffer,
}

impl Receiving {
    fn run(mut self, stopped: &PipeReader) {
        let (mut bytes, mut reads_left) = (vec![0; READ_BYTES_MAX], None);
        loop {
            match self.source.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => self.lines.push(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The predecessor lives: it repeats a line that was received in part.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && reads_left.is_some() => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(stopped),
                Err(_) => break,
            }
            match &mut reads_left {
                None if is_closed(stopped) => reads_left = Some(LAST_READS_MAX),
                None => {}
                Some(0) => return,
                Some(left) => *left -= 1,
            }
        }
        self.lines.finish();
    }

    /// Waits for bytes, or for the request to end.
    fn wait(&self, stopped: &PipeReader) {
        let mut each = [PollFd::new(&self.source, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        // An error shows in the next read.
        let _ = poll(&mut each, None);
    }
}

fn is_closed(stopped: &PipeReader) -> bool {
    let mut stopped = [PollFd::new(stopped, PollFlags::IN)];
    poll(&mut stopped, Some(&rustix::event::Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Cuts a stream of bytes into lines.
struct LineBuffer {
    sink: Sink,
    /// The beginning of a line.
    partial: Vec<u8>,
    /// The rest of a line that is too long.
    discards: bool,
}

impl LineBuffer {
    fn new(sink: Sink) -> Self {
        Self { sink, partial: Vec::new(), discards: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| matches!(*byte, b'\n' | CANCEL)) {
            match piece.last() {
                Some(&CANCEL) => self.clear(),
                Some(b'\n') if self.partial.is_empty() && !self.discards => self.sink.push(piece),
                Some(b'\n') => {
                    self.append(piece);
                    self.finish();
                }
                _ => self.append(piece),
            }
        }
    }

    fn append(&mut self, piece: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
        self.discards |= piece.len() > room;
        self.partial.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    /// Writes the line, with its line end.
    fn finish(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        if self.partial.last() != Some(&b'\n') {
            self.partial.push(b'\n');
        }
        self.sink.push(&self.partial);
        self.clear();
    }

    fn clear(&mut self) {
        self.partial.clear();
        self.partial.shrink_to(READ_BYTES_MAX);
        self.discards = false;
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
