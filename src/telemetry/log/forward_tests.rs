//! The pipe to a successor that reads, stops reading, or ends.

use std::io::{PipeReader, pipe};
use std::thread;

use proptest::prelude::*;

use super::*;

const SHORT: Duration = Duration::from_millis(50);

fn forward() -> (Forward, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let mut forward = Forward::new(writer.into()).unwrap();
    forward.stall_max = SHORT;
    (forward, reader)
}

fn read(reader: &mut PipeReader, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    reader.read_exact(&mut read).unwrap();
    read
}

/// G8: a successor gets the lines in order, and lines that it has read whole are not kept
#[test]
fn lines_reach_the_successor() {
    let (mut forward, mut reader) = forward();
    forward.write(b"one\ntwo\n").unwrap();
    assert_eq!(read(&mut reader, 4), b"one\n");
    forward.write(b"three\n").unwrap();
    assert_eq!(forward.kept, b"two\nthree\n");
    assert_eq!(read(&mut reader, 10), b"two\nthree\n");
    forward.check().unwrap();
    forward.write(b"four\n").unwrap();
    assert_eq!((forward.kept.as_slice(), read(&mut reader, 5).as_slice()), (&b"four\n"[..], &b"four\n"[..]));
}

/// G8: the lines that a successor has not read when it ends are taken back; a line that was read in part is repeated whole
#[test]
fn unread_lines_of_an_ended_successor_are_taken_back() {
    for (bytes_read, unread) in [(0, "one\ntwo\n"), (2, "one\ntwo\n"), (4, "two\n"), (7, "two\n"), (8, "")] {
        let (mut forward, mut reader) = forward();
        forward.write(b"one\ntwo\n").unwrap();
        read(&mut reader, bytes_read);
        forward.check().unwrap();
        drop(reader);
        let ForwardError { error, lines } = match bytes_read % 2 {
            0 => forward.write(b"three\n").unwrap_err(),
            _ => forward.check().unwrap_err(),
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let unwritten = if bytes_read % 2 == 0 { "three\n" } else { "" };
        assert_eq!(String::from_utf8(lines).unwrap(), format!("{unread}{unwritten}"), "{bytes_read}");
    }
}

/// G8: a successor that does not read is given up after a time; it finds nothing in the pipe of what was taken back, and the line
/// that it has read in part is cancelled
#[test]
fn a_successor_that_does_not_read_is_given_up() {
    let lines: Vec<u8> =
        (0..3000).flat_map(|at| format!("line {at} {}\n", "x".repeat(at % 90)).into_bytes()).collect();
    for bytes_read in [0, 3, lines.iter().position(|byte| *byte == b'\n').unwrap() + 1] {
        let (mut forward, mut reader) = forward();
        let (first, rest) = lines.split_at(lines.iter().position(|byte| *byte == b'\n').unwrap() + 1);
        forward.write(first).unwrap();
        read(&mut reader, bytes_read);
        let ForwardError { error, lines: taken } = forward.write(rest).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(forward);
        let mut left = Vec::new();
        reader.read_to_end(&mut left).unwrap();
        let (expected, cancelled) = match bytes_read {
            3 => (&lines[..], &[CANCEL][..]),
            0 => (&lines[..], &[][..]),
            _ => (rest, &[][..]),
        };
        assert!(taken == expected, "{bytes_read}: {} of {} bytes", taken.len(), expected.len());
        assert_eq!(left, cancelled, "{bytes_read}");
    }
}

/// G8: the end waits until the successor has read everything; one that does not read has it taken back
#[test]
fn the_end_waits_for_the_successor() {
    let (mut forward, mut reader) = forward();
    forward.write(b"one\ntwo\n").unwrap();
    read(&mut reader, 4);
    let ForwardError { error, lines } = forward.finish().unwrap_err();
    assert_eq!((error.kind(), lines.as_slice()), (io::ErrorKind::TimedOut, &b"two\n"[..]));
    forward.stall_max = Duration::from_secs(60);
    forward.write(b"three\n").unwrap();
    let ending = thread::spawn(move || forward.finish().is_ok());
    assert_eq!(read(&mut reader, 6), b"three\n");
    assert!(ending.join().unwrap());
}

/// G8: a slow successor gets every line
#[test]
fn a_slow_successor_gets_every_line() {
    let (mut forward, mut reader) = forward();
    forward.stall_max = Duration::from_secs(60);
    let lines = b"0123456789 0123456789 0123456789\n".repeat(6000);
    let expected = lines.clone();
    let writing = thread::spawn(move || forward.write(&lines).map_err(|error| error.error));
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let bytes = (expected.len() - received.len()).min(16 << 10);
        received.extend(read(&mut reader, bytes));
    }
    assert!(writing.join().unwrap().is_ok() && received == expected);
}

/// G8: a successor that goes on reading is not given up, however long it takes; one that reads nothing for a second is
#[tokio::test(start_paused = true)]
async fn a_successor_that_goes_on_reading_is_not_given_up() {
    let (mut forward, mut reader) = forward();
    forward.stall_max = STALL_MAX;
    forward.write(&b"a line\n".repeat(100)).unwrap();
    let mut stall = Stall::default();
    for _ in 0..10 {
        assert!(stall.check(&forward).is_ok());
        tokio::time::advance(Duration::from_millis(990)).await;
        assert_eq!(read(&mut reader, 1).len(), 1);
    }
    assert_eq!(stall.check(&forward).unwrap(), STALL_MAX);
    tokio::time::advance(Duration::from_millis(990)).await;
    assert_eq!(stall.check(&forward).unwrap(), Duration::from_millis(10));
    tokio::time::advance(Duration::from_millis(10)).await;
    assert_eq!(stall.check(&forward).unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// G8: pieces end with a line where they can
#[test]
fn pieces_are_whole_lines() {
    for (lines, max, piece) in [
        ("one\ntwo\n", 100, "one\ntwo\n"),
        ("one\ntwo\n", 8, "one\ntwo\n"),
        ("one\ntwo\n", 7, "one\n"),
        ("one\ntwo\n", 4, "one\n"),
        ("one\ntwo\n", 3, "one"),
        ("", 3, ""),
    ] {
        assert_eq!(next_piece(lines.as_bytes(), max), piece.as_bytes(), "{lines:?} {max}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// G8: whenever a successor ends, each line is read whole by it or taken back, in order and once
    #[test]
    fn no_line_is_lost_or_repeated(
        lengths in proptest::collection::vec(prop_oneof![8 => 1..300_usize, 1 => 4000..10_000_usize, 1 => Just(90_000)], 1..80),
        batch in 1..20_usize,
        reads in proptest::collection::vec(1..20_000_usize, 0..20),
    ) {
        let lines: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(at, length)| format!("{at} {}\n", "x".repeat(*length)).into_bytes()).collect();
        let (mut forward, mut reader) = forward();
        forward.stall_max = Duration::from_secs(60);
        let reading = thread::spawn(move || {
            let mut received = Vec::new();
            for bytes in reads {
                let mut piece = vec![0; bytes];
                let count = reader.read(&mut piece).unwrap();
                received.extend_from_slice(&piece[..count]);
                if count == 0 {
                    break;
                }
            }
            received
        });
        let (mut taken, mut is_broken) = (Vec::new(), false);
        for batch in lines.chunks(batch) {
            let batch = batch.concat();
            if is_broken {
                taken.extend_from_slice(&batch);
            } else if let Err(error) = forward.write(&batch) {
                (taken, is_broken) = (error.lines, true);
            }
        }
        // A reader that waits for more ends with the pipe; one that has ended is found by the check.
        while !is_broken && !reading.is_finished() {
            if forward.unread() == 0 {
                break;
            }
            thread::yield_now();
        }
        if !is_broken && reading.is_finished() && let Err(error) = forward.check() {
            taken = error.lines;
        }
        drop(forward);
        let received = reading.join().unwrap();
        let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let all = [&received[..whole], &taken[..]].concat();
        prop_assert_eq!(all.len(), lines.concat().len());
        prop_assert!(all == lines.concat());
    }
}
