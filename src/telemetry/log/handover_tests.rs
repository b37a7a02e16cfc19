//! The logs of a predecessor and its successor with one file: one of them writes it, and no line is lost, torn or repeated.

use std::fs;
use std::io::pipe;
use std::path::Path;

use slog::info;

use super::*;
use crate::scratch::Scratch;

const LONG: Duration = Duration::from_secs(60);

fn start(path: &Path) -> (Logger, LogControl) {
    build(&LogConfig { output: LogOutput::File(path.to_owned()), ..LogConfig::default() }).unwrap()
}

/// Waits until the file has this text.
fn wait_for_text(path: &Path, text: &str) {
    let began = clock::now();
    while !fs::read_to_string(path).is_ok_and(|log| log.contains(text)) {
        assert!(clock::now() - began < LONG, "timeout: {text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The messages of the file, each of one whole line.
fn messages(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let parse = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("torn: {line}"));
        line["msg"].as_str().unwrap().to_owned()
    };
    text.lines().map(parse).collect()
}

fn count(messages: &[String], begin: &str) -> usize {
    let mut found: Vec<_> = messages.iter().filter(|message| message.starts_with(begin)).collect();
    let all = found.len();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), all, "a line is repeated");
    all
}

fn log_lines(log: &Logger, begin: &str, lines: usize) {
    (0..lines).for_each(|at| info!(log, "{begin} {at} {}", "x".repeat(at % 200)));
}

/// G8: the successor writes the lines of both, into the file that it has reopened; the predecessor ends first
#[test]
fn the_successor_writes_the_lines_of_both() {
    let scratch = Scratch::new();
    let (path, rotated) = (scratch.path().join("log"), scratch.path().join("log.1"));
    let ((old_log, old), (new_log, new)) = (start(&path), start(&path));
    log_lines(&old_log, "before", 100);
    let (source, target) = pipe().unwrap();
    new.receive_from(source.into()).unwrap();
    old.forward_to(target.into());
    log_lines(&old_log, "old", 2000);
    log_lines(&new_log, "new", 2000);
    wait_for_text(&path, "old 1999");
    wait_for_text(&path, "new 1999");
    fs::rename(&path, &rotated).unwrap();
    new.reopen();
    wait_for_text(&path, "log file reopened");
    log_lines(&old_log, "late", 2000);
    assert!(old.shut_down(LONG) && new.shut_down(LONG));
    let (before, after) = (messages(&rotated), messages(&path));
    assert_eq!(["before", "old", "new", "late"].map(|begin| count(&before, begin)), [100, 2000, 2000, 0]);
    assert_eq!(["before", "old", "new", "late"].map(|begin| count(&after, begin)), [0, 0, 0, 2000]);
    assert_eq!((old.stats().lost(), new.stats().lost()), (0, 0));
}

/// G8: a successor that ends first has written what it has received, and the predecessor writes the rest, also into a rotated file
#[test]
fn the_predecessor_writes_when_the_successor_ends() {
    let scratch = Scratch::new();
    let (path, rotated) = (scratch.path().join("log"), scratch.path().join("log.1"));
    let ((old_log, old), (_, new)) = (start(&path), start(&path));
    let (source, target) = pipe().unwrap();
    new.receive_from(source.into()).unwrap();
    old.forward_to(target.into());
    log_lines(&old_log, "old", 1500);
    wait_for_text(&path, "old 1499");
    fs::rename(&path, &rotated).unwrap();
    new.reopen();
    wait_for_text(&path, "log file reopened");
    log_lines(&old_log, "more", 1500);
    assert!(new.shut_down(LONG));
    wait_for_text(&path, "the successor has stopped writing the log");
    log_lines(&old_log, "late", 100);
    assert!(old.shut_down(LONG));
    let (before, after) = (messages(&rotated), messages(&path));
    assert_eq!(["old", "more", "late"].map(|begin| count(&before, begin)), [1500, 0, 0]);
    assert_eq!(["old", "more", "late"].map(|begin| count(&after, begin)), [0, 1500, 100]);
    assert_eq!((old.stats().lost(), old.stats().current()), (0, None));
}

/// G8: what a killed or hanging successor has not read is written by the predecessor, also at its own end
#[test]
fn unread_lines_are_written_by_the_predecessor() {
    for (is_killed, lines) in [(true, 3000), (false, 3000), (true, 10), (false, 10)] {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let (log, control) = start(&path);
        let (source, target) = pipe().unwrap();
        control.forward_to(target.into());
        let began = clock::now();
        while rustix::io::ioctl_fionread(&source).unwrap() == 0 {
            assert!(clock::now() - began < LONG, "timeout: nothing is forwarded");
            log_lines(&log, "begin", 1);
            std::thread::yield_now();
        }
        let source = if is_killed { None } else { Some(source) };
        log_lines(&log, "old", lines);
        assert!(control.shut_down(LONG));
        drop(source);
        let messages = messages(&path);
        assert_eq!(count(&messages, "old"), lines, "killed: {is_killed}");
        assert_eq!(count(&messages, "the successor has stopped writing the log"), 1);
        assert_eq!(control.stats().lost(), 0);
    }
}
