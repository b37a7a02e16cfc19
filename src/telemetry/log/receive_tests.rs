//! Lines from a predecessor.

use std::io::Write as _;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::telemetry::log::sink::LogBuffer;
use crate::telemetry::log::stats::LogStats;

const LONG: Duration = Duration::from_secs(60);

/// Receives these pieces, and the end of the predecessor.
fn received(pieces: &[&[u8]]) -> String {
    let (sink, lines) = Sink::in_memory();
    let mut buffer = LineBuffer::new(sink);
    pieces.iter().for_each(|piece| buffer.push(piece));
    buffer.finish();
    lines()
}

/// G8: lines are whole however they arrive; the last line of a predecessor that ended within it gets a line end
#[test]
fn lines_are_received_whole() {
    assert_eq!(received(&[b"one\ntwo\n"]), "one\ntwo\n");
    assert_eq!(received(&[b"o", b"ne\ntw", b"o", b"\n", b"three"]), "one\ntwo\nthree\n");
    assert_eq!(received(&[b"one\n\ntwo\n"]), "one\n\ntwo\n");
    assert_eq!(received(&[]), "");
}

/// G8: a line that the predecessor has taken back is not written
#[test]
fn a_cancelled_line_is_not_written() {
    assert_eq!(received(&[b"one\ntw", b"\x18"]), "one\n");
    assert_eq!(received(&[b"one\ntw\x18three\n"]), "one\nthree\n");
    let long = b"x".repeat(LINE_BYTES_MAX + 5);
    assert_eq!(received(&[&long, b"\x18", b"two\n"]), "two\n");
}

/// G8, X12: a line that is too long is cut, and takes no more memory
#[test]
fn a_line_that_is_too_long_is_cut() {
    let long = b"x".repeat(LINE_BYTES_MAX);
    for end in [&b"\n"[..], b"yyy\n", b"y", b""] {
        let lines = received(&[&long, end, if end.ends_with(b"\n") { b"two\n" } else { b"" }]);
        let (first, rest) = lines.split_once('\n').unwrap();
        assert!(first.len() == LINE_BYTES_MAX && first.bytes().all(|byte| byte == b'x'));
        assert_eq!(rest, if end.ends_with(b"\n") { "two\n" } else { "" });
    }
}

/// G8: at the end of this process the lines in the pipe are received, and the pipe is closed; a part of a line is left to the predecessor
#[test]
fn the_end_receives_what_is_in_the_pipe() {
    let (receivers, (sink, lines)) = (Receivers::default(), Sink::in_memory());
    let (source, mut predecessor) = pipe().unwrap();
    receivers.start(source.into(), sink).unwrap();
    let expected = b"a line of the log\n".repeat(3000);
    predecessor.write_all(&expected).unwrap();
    predecessor.write_all(b"a part").unwrap();
    receivers.stop(LONG);
    assert!(lines().as_bytes() == expected);
    assert_eq!(predecessor.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

/// G8: a predecessor that writes on does not delay the end, and a blocked one neither
#[test]
fn a_busy_predecessor_does_not_delay_the_end() {
    let (receivers, (sink, lines)) = (Receivers::default(), Sink::in_memory());
    let (source, mut predecessor) = pipe().unwrap();
    receivers.start(source.into(), sink).unwrap();
    let writing = thread::spawn(move || while predecessor.write_all(&b"a line\n".repeat(500)).is_ok() {});
    while lines().is_empty() {
        thread::yield_now();
    }
    receivers.stop(LONG);
    writing.join().unwrap();
    assert!(lines().lines().all(|line| line == "a line"));
}

/// G8: the thread ends with the predecessor
#[test]
fn the_thread_ends_with_the_predecessor() {
    let (receivers, (sink, lines)) = (Receivers::default(), Sink::in_memory());
    let (source, mut predecessor) = pipe().unwrap();
    receivers.start(source.into(), sink.clone()).unwrap();
    predecessor.write_all(b"one\ntwo").unwrap();
    drop(predecessor);
    let ended = || receivers.0.lock().unwrap()[0].ended.recv_timeout(LONG);
    assert_eq!(ended(), Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(lines(), "one\ntwo\n");
    // The next predecessor replaces it in the list.
    let (source, _predecessor) = pipe().unwrap();
    receivers.start(source.into(), sink).unwrap();
    assert_eq!(receivers.0.lock().unwrap().len(), 1);
    receivers.stop(LONG);
}

/// G8, X12: received lines that do not fit are lost and counted, like own lines
#[test]
fn received_lines_that_do_not_fit_are_counted() {
    let stats = Arc::new(LogStats::new().unwrap());
    let mut lines = LineBuffer::new(Sink::new(Arc::new(LogBuffer::default()), Arc::clone(&stats)));
    let line = [b"x".repeat((1 << 20) - 1), b"\n".to_vec()].concat();
    (0..11).for_each(|_| lines.push(&line));
    assert_eq!(stats.lost(), 3);
}
