//! Reads the gateway's log while it grows, and frees its pages.
//!
//! The part that was read is replaced by a hole (fallocate(2)). A truncation could lose lines between reading and freeing. While an event
//! keeps the disk full no hole is punched, because that would free space.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use serde::Deserialize;

use super::broken::LoggedReasons;
use crate::clock;
use crate::statistics::Statistics;

const INTERVAL: Duration = Duration::from_millis(200);
/// Maximum of kept lines with a reason. A run with more of them has failed anyway.
const REASONS_MAX: usize = 200_000;
/// Granularity of holes, a multiple of the page sizes in use. A page is freed only by a hole that covers it completely: two holes that meet
/// within a page leave it allocated.
const PAGE_BYTES: u64 = 64 * 1024;

#[derive(Debug, Default)]
struct TailState {
    reasons: LoggedReasons,
    lines: u64,
    lines_while_full: u64,
    lines_after_full: u64,
    full_since: Option<Instant>,
    is_finished: bool,
}

/// Handle of the reader thread. Its drop ends the thread.
pub(crate) struct LogTail {
    tail: Arc<Mutex<TailState>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Deserialize)]
struct Line {
    client: Option<IpAddr>,
    reason: Option<String>,
}

impl LogTail {
    /// Starts to read `log`.
    pub(crate) fn start(log: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(log)?;
        let tail = Arc::new(Mutex::new(TailState::default()));
        let shared = Arc::clone(&tail);
        let thread = std::thread::Builder::new().name("log".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = follow(file, &shared) {
                eprintln!("cannot read the gateway's log: {error}");
            }
        })?;
        Ok(Self { tail, thread: Some(thread) })
    }

    fn tail(&self) -> MutexGuard<'_, TailState> {
        lock(&self.tail)
    }

    /// The disk is about to be filled.
    pub(crate) fn begin_full(&self) {
        self.tail().full_since = Some(clock::now());
    }

    /// The disk has free space again.
    pub(crate) fn end_full(&self) {
        let mut tail = self.tail();
        if let Some(begin) = tail.full_since.take() {
            tail.reasons.full.push((begin, clock::now()));
        }
    }

    /// Lines with a reason so far.
    pub(crate) fn reasons(&self) -> LoggedReasons {
        self.tail().reasons.clone()
    }

    /// Writes counts of the whole run so far as `PREFIX.log.…`.
    pub(crate) fn summarize(&self, prefix: &str, into: &mut Statistics) {
        let tail = self.tail();
        let counts = [
            ("lines", tail.lines),
            ("lines_while_full", tail.lines_while_full),
            ("lines_after_full", tail.lines_after_full),
        ];
        for (name, count) in counts {
            into.set(format!("{prefix}.log.{name}"), count as f64);
        }
    }
}

impl Drop for LogTail {
    fn drop(&mut self) {
        self.tail().is_finished = true;
        if let Some(thread) = self.thread.take() {
            // The thread has reported its error itself.
            let _ = thread.join();
        }
    }
}

fn lock(tail: &Mutex<TailState>) -> MutexGuard<'_, TailState> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(file: File, tail: &Mutex<TailState>) -> io::Result<()> {
    let holes = file.try_clone()?;
    let mut reader = BufReader::new(file);
    let (mut read, mut freed, mut line) = (0_u64, 0_u64, Vec::new());
    while !lock(tail).is_finished {
        loop {
            read += reader.read_until(b'\n', &mut line)? as u64;
            if line.last() != Some(&b'\n') {
                break;
            }
            lock(tail).count(&line);
            line.clear();
        }
        let whole_pages = read - read % PAGE_BYTES;
        if whole_pages > freed && lock(tail).full_since.is_none() {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&holes, flags, freed, whole_pages - freed)?;
            freed = whole_pages;
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

impl TailState {
    fn count(&mut self, line: &[u8]) {
        self.lines += 1;
        self.lines_while_full += u64::from(self.full_since.is_some());
        self.lines_after_full += u64::from(self.full_since.is_none() && !self.reasons.full.is_empty());
        if let Ok(Line { client: Some(client), reason: Some(_) }) = serde_json::from_slice(line)
            && self.reasons.lines.len() < REASONS_MAX
        {
            self.reasons.lines.push((clock::now(), client));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_with_a_reason_are_kept_and_lines_of_a_full_disk_counted_separately() {
        let directory = std::env::temp_dir().join(format!("loadtest-tail-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("access.log");
        let mut log = File::create(&path).unwrap();
        let tail = LogTail::start(&path).unwrap();
        let wait = |lines| {
            while tail.tail().lines < lines {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        log.write_all(b"{\"client\":\"127.0.0.1\",\"status\":200}\n{\"client\":\"127.0.0.2\",\"rea").unwrap();
        wait(1);
        log.write_all(b"son\":\"x\"}\nno json\n").unwrap();
        wait(3);
        tail.begin_full();
        log.write_all(b"{}\n").unwrap();
        wait(4);
        tail.end_full();
        log.write_all(b"{}\n").unwrap();
        wait(5);
        let reasons = tail.reasons();
        let clients: Vec<IpAddr> = reasons.lines.iter().map(|(_, client)| *client).collect();
        assert_eq!((clients, reasons.full.len()), (vec![IpAddr::from([127, 0, 0, 2])], 1));
        let mut statistics = Statistics::default();
        tail.summarize("s", &mut statistics);
        let counts = ["lines", "lines_while_full", "lines_after_full"]
            .map(|name| statistics.value(&format!("s.log.{name}")));
        assert_eq!(counts, [Some(5.0), Some(1.0), Some(1.0)]);
        drop(tail);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
