//! Every cause of degradation has a test that sees its begin and its end on a running gateway.
//!
//! A test calls `has_begun` and `has_ended` with the code: those of `tests/status/mod.rs`, or in Python those of
//! `tests/clients/causes.py`. Both check the cause against `docs/causes.md`, the metric and the log.

use super::documents::marked;
use super::sources::{Source, all};

/// Causes that end only with the process.
const WITHOUT_END: [&str; 3] = ["draining", "circuit_forced_open", "chaos"];

/// The codes of `docs/causes.md`.
fn codes(table: &str) -> Vec<&str> {
    table.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect()
}

/// Whether a test calls this function with this code.
fn is_called(tests: &[Source], function: &str, code: &str) -> bool {
    let calls = [format!("{function}(&gateway,\"{code}\""), format!("{function}(gateway,\"{code}\"")];
    tests.iter().any(|source| {
        let text: String = source.text.split_whitespace().collect();
        calls.iter().any(|call| text.contains(call.as_str()))
    })
}

/// X10: a test sees the begin of each documented cause, and its end, unless the cause ends with the process
#[test]
fn every_cause_is_seen_to_begin_and_to_end() {
    let table = marked("docs/causes.md", "causes");
    let codes = codes(&table);
    assert!(codes.len() > 40, "only {} codes are found: {codes:?}", codes.len());
    let tests: Vec<Source> = all().into_iter().filter(|source| source.path.starts_with("tests/")).collect();
    let without = |function| {
        let is_missing = |code: &&&str| !is_called(&tests, function, code);
        codes.iter().filter(is_missing).copied().collect::<Vec<_>>()
    };
    assert_eq!(without("has_begun"), Vec::<&str>::new(), "no test sees the begin of these causes");
    let mut endless = without("has_ended");
    endless.retain(|code| !WITHOUT_END.contains(code));
    assert_eq!(endless, Vec::<&str>::new(), "no test sees the end of these causes");
    for code in WITHOUT_END {
        assert!(codes.contains(&code) && !is_called(&tests, "has_ended", code), "{code} has an end");
    }
}

/// The search finds a call that is broken over lines, and no other code.
#[test]
fn calls_are_found_by_their_code() {
    let text =
        "    has_begun(\n        &gateway,\n        \"log\",\n    )\n    has_ended(gateway, \"chaos\")\n";
    let tests = [Source::sample("tests/x.rs", text)];
    assert!(is_called(&tests, "has_begun", "log") && is_called(&tests, "has_ended", "chaos"));
    assert!(!is_called(&tests, "has_begun", "lo") && !is_called(&tests, "has_ended", "log"));
}
