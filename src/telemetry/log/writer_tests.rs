//! The writer thread over an output with scripted failures.

use std::collections::VecDeque;
use std::sync::Mutex;

use proptest::prelude::*;
use slog::{Discard, o};

use super::*;

const ENOSPC: i32 = 28;

/// A fake file: its content, and the results of the next writes.
#[derive(Default)]
struct FakeFile {
    written: Vec<u8>,
    /// For each of the next writes: the maximum of written bytes, or the error.
    results: VecDeque<Result<usize, i32>>,
    deleted: bool,
    reopens: VecDeque<Result<Reopened, i32>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<FakeFile>>);

impl io::Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.0.lock().unwrap();
        let most =
            file.results.pop_front().unwrap_or(Ok(usize::MAX)).map_err(io::Error::from_raw_os_error)?;
        let count = bytes.len().min(most.max(1));
        file.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogTarget for Fake {
    fn is_deleted(&self) -> bool {
        self.0.lock().unwrap().deleted
    }

    fn reopen(&mut self) -> io::Result<Reopened> {
        let mut file = self.0.lock().unwrap();
        let reopened =
            file.reopens.pop_front().unwrap_or(Ok(Reopened::Same)).map_err(io::Error::from_raw_os_error)?;
        file.deleted = false;
        if reopened == Reopened::Other {
            file.written.clear();
        }
        Ok(reopened)
    }

    fn is_file(&self) -> bool {
        true
    }

    fn is_stderr(&self) -> bool {
        false
    }
}

fn writer(results: impl IntoIterator<Item = Result<usize, i32>>) -> (Writer, Fake) {
    let fake = Fake::default();
    fake.0.lock().unwrap().results.extend(results);
    let writer = Writer {
        stats: Arc::new(LogStats::new().unwrap()),
        target: Box::new(fake.clone()),
        forward: None,
        requested: None,
        notices: Logger::root(Discard, o!()),
        partial_line: Vec::new(),
        recovered: None,
        reported: 0,
        noticed: None,
        measured: None,
    };
    (writer, fake)
}

fn text(fake: &Fake) -> String {
    String::from_utf8(fake.0.lock().unwrap().written.clone()).unwrap()
}

/// X12: a partially written line is completed after the recovery; the rest of its batch is lost and counted
#[test]
fn a_line_that_was_cut_short_is_completed() {
    let (mut writer, fake) = writer([Ok(5), Err(ENOSPC), Err(ENOSPC), Ok(2)]);
    writer.write_batch(b"one\ntwo\nthree\n");
    assert_eq!((text(&fake).as_str(), writer.stats.lost()), ("one\nt", 1));
    assert_eq!(writer.stats.current().unwrap().cause, LogFault::DiskFull);
    writer.write_batch(b"four\n");
    assert_eq!((text(&fake).as_str(), writer.stats.lost()), ("one\nt", 2));
    writer.write_batch(b"five\n");
    assert_eq!((text(&fake).as_str(), writer.stats.lost()), ("one\ntwo\nfive\n", 2));
    assert_eq!(writer.stats.current(), None, "it works again");
    assert_eq!(writer.recovered.unwrap().cause, LogFault::DiskFull);
}

/// X12: a deleted file that cannot be created again is a failure; after that succeeds, lines go to the new file
#[test]
fn a_deleted_file_is_reopened_when_possible() {
    let (mut writer, fake) = writer([]);
    writer.write_batch(b"one\n");
    {
        let mut file = fake.0.lock().unwrap();
        file.deleted = true;
        file.reopens.extend([Err(2), Ok(Reopened::Other)]);
    }
    writer.write_batch(b"two\n");
    assert_eq!((text(&fake).as_str(), writer.stats.lost()), ("one\n", 1));
    writer.write_batch(b"three\n");
    assert_eq!((text(&fake).as_str(), writer.stats.lost()), ("three\n", 1));
}

/// X12: the end of a line is never written into another file than its beginning
#[test]
fn a_new_file_begins_with_a_whole_line() {
    let (mut writer, fake) = writer([Ok(2), Err(ENOSPC)]);
    writer.write_batch(b"one\n");
    fake.0.lock().unwrap().reopens.push_back(Ok(Reopened::Other));
    writer.reopen();
    writer.write_batch(b"two\n");
    assert_eq!((text(&fake).as_str(), writer.stats.lost()), ("two\n", 1));
}

proptest! {
    /// X12: with any sequence of failures every line is written whole and in order, or counted as lost
    #[test]
    fn lines_are_whole_or_counted(
        results in proptest::collection::vec(prop_oneof![3 => (1..40_usize).prop_map(Ok), 1 => Just(Err(ENOSPC))], 0..60),
        batches in proptest::collection::vec(1..6_usize, 1..12),
    ) {
        let (mut writer, fake) = writer(results);
        let mut next = 0..;
        for lines in &batches {
            let batch: String = next.by_ref().take(*lines).map(|at: u64| format!("line {at} of the log\n")).collect();
            writer.write_batch(batch.as_bytes());
        }
        // The file works from here on.
        fake.0.lock().unwrap().results.clear();
        writer.write_batch(b"line 999 of the log\n");
        let total = batches.iter().sum::<usize>() as u64 + 1;
        let text = text(&fake);
        let parse = |line: &str| line.strip_prefix("line ")?.strip_suffix(" of the log")?.parse::<u64>().ok();
        let written: Vec<u64> = text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("torn: {line}"))).collect();
        prop_assert!(text.ends_with('\n') && written.is_sorted());
        prop_assert_eq!(written.len() as u64 + writer.stats.lost(), total);
        prop_assert_eq!(writer.stats.current(), None);
    }
}
