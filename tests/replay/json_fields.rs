//! The fields of the JSON outputs are those of `docs/simulate.md`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{access_line, configuration, report, write_log};
use crate::support::{Gateway, Scratch};

/// Objects with names of the log as their keys.
const NAMED: [&str; 4] = ["missing_buckets", "other_reasons", "refused_by_reason", "shadowed"];
/// Lists and members that have a table of their own.
const OF_TABLES: [(&str, &str); 6] = [
    ("all[].", "SIDE."),
    ("buckets[].sides[].", "SIDE."),
    ("timeline[].log.", "INTERVAL."),
    ("timeline[].against.", "INTERVAL."),
    ("timeline[].new.", "INTERVAL."),
    ("log.counts.", "counts."),
];

/// Adds the paths of all values that are neither objects nor lists.
fn add_paths(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let is_named = NAMED.iter().any(|name| path.ends_with(name));
            for (key, member) in members {
                let key = if is_named { "NAME" } else { key };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                add_paths(member, &path, paths);
            }
        }
        Value::Array(elements) => {
            elements.iter().for_each(|element| add_paths(element, &format!("{path}[]"), paths));
        }
        _ => {
            paths.insert(path.to_owned());
        }
    }
}

fn paths(document: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    add_paths(document, "", &mut paths);
    let of_table = |path: String| {
        let found = OF_TABLES.iter().find_map(|(begin, table)| Some((path.strip_prefix(begin)?, table)));
        found.map_or(path.clone(), |(rest, table)| format!("{table}{rest}"))
    };
    paths.into_iter().map(of_table).collect()
}

/// The fields in the first column of the table with this heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/simulate.md");
    let (_, table) = page.split_once(&format!("| {heading} | meaning |\n|---|---|\n")).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with("| `"));
    let fields = rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2));
    fields.map(str::to_owned).collect()
}

fn with_prefix(prefix: &str, fields: BTreeSet<String>) -> BTreeSet<String> {
    fields.into_iter().map(|field| format!("{prefix}{field}")).collect()
}

/// A log with everything that a report may name.
fn lines() -> Vec<String> {
    let mut lines: Vec<String> = (0..40).map(|at| access_line(at * 50, 20, "10.0.0.1", "")).collect();
    let failed =
        |at: u64| access_line(3_000 + at * 10, 1, "10.0.0.2", "").replace("\"status\":200", "\"status\":500");
    lines.extend((0..20).map(failed));
    lines.push(access_line(4_000, 1, "10.0.0.2", "").replace("\"bucket\":\"b\"", "\"bucket\":\"gone\""));
    let refused = access_line(5_000, 1, "10.0.0.2", "\"reason\":\"no_such_bucket\",");
    let refused = refused.replace("\"attempts\":1,", "\"attempts\":0,").replace("\"queue_us\":0,", "");
    lines.push(refused.replace("\"status\":200", "\"status\":404"));
    lines.push(access_line(6_000, 1, "10.0.0.2", "\"reason\":\"client_gone\","));
    lines
}

/// O7: the documentation names each field of the JSON of `simulate`, and no other
#[test]
fn the_report_has_the_documented_fields() {
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines());
    // Not readable: a problem.
    let other = directory.path().join("other");
    std::fs::write(&other, [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    let old = directory.path().join("old.toml");
    std::fs::write(&old, configuration("")).unwrap();
    let new = configuration(
        "rate_limit.global.requests_per_second = 10\nrate_limit.global.burst = 5\nrate_limit.global.mode = \"shadow\"\n\
         rate_limit.per_ip.requests_per_second = 30\nrate_limit.per_ip.burst = 15\n\
         buckets.b.s3.circuit_breaker.failure_threshold = 3",
    );
    let report = report(&new, &["--suggest", "--against", old.to_str().unwrap()], &[&log, &other]);
    let mut expected = documented("field of the report");
    for of_table in ["all[]", "buckets[].sides[]", "timeline[].log", "timeline[].against", "timeline[].new"] {
        assert!(expected.remove(of_table), "{of_table} is not documented");
    }
    let of_counts: Vec<_> =
        expected.iter().filter(|field| field.starts_with("log.counts.")).cloned().collect();
    for field in of_counts {
        expected.remove(&field);
        expected.insert(field.replace("log.counts.", "counts."));
    }
    expected.extend(with_prefix("SIDE.", documented("field of a SIDE")));
    expected.extend(with_prefix("INTERVAL.", documented("field of an INTERVAL")));
    assert_eq!(paths(&report), expected, "{report}");
}

/// O7: the documentation names each field of the JSON of `incident`, and no other
#[test]
fn the_timeline_has_the_documented_fields() {
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines());
    let other = directory.path().join("other");
    std::fs::write(&other, [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    let builder = Gateway::builder().argument("incident").argument("--json");
    let builder = ["--from", "2026-01-01T00:00:00Z", "--to", "2027-01-01T00:00:00Z"]
        .into_iter()
        .chain([log.to_str().unwrap(), other.to_str().unwrap()])
        .fold(builder, |builder, argument| builder.argument(argument));
    let run = builder.run();
    let incident: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let mut expected = documented("field of `incident --json`");
    assert!(expected.remove("counts"), "counts is not documented");
    let of_counts = documented("field of the report");
    let of_counts = of_counts.iter().filter_map(|field| field.strip_prefix("log."));
    expected.extend(of_counts.filter(|field| field.starts_with("counts.")).map(str::to_owned));
    assert_eq!(paths(&incident), expected, "{incident}");
}
