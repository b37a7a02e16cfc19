//! The status as lines for people: the status, the causes with their effects, sensors, buckets.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};
use tidegate::telemetry::{counted, escape_controls};

use crate::admin_client::text::{drain_line, duration};

/// The most lines.
const LINES_MAX: usize = 20;
/// Causes have two lines each.
const CAUSES_MAX: usize = 7;
/// The lines after the causes: how many more there are, the resources, and how many more buckets there are.
const OTHER_LINES: usize = 3;
/// A longer line is cut on a terminal, where it would become two.
const COLUMNS: usize = 120;
const EFFECTS: [&str; 3] = ["refused", "slowed", "stale"];

/// The lines. `age`: time since the document was received.
pub(super) fn lines(document: &Value, host: &str, age: Duration) -> Vec<String> {
    let causes = document["causes"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines = vec![
        format!("{}: {}", text(&document["status"]).to_uppercase(), text(&document["summary"])),
        format!(
            "tidegate {} at {}, up {}, level {}, {} in flight",
            text(&document["version"]),
            escape_controls(host),
            duration(millis(&document["uptime_ms"]) + age),
            text(&document["level"]),
            count(&document["requests_in_flight"], "requests"),
        ),
    ];
    lines.extend(Some(&document["drain"]).filter(|drain| drain.is_object()).map(drain_line));
    lines.extend(document["predecessors"].get(0).map(predecessor));
    let causes_max = CAUSES_MAX.min((LINES_MAX - OTHER_LINES - lines.len()) / 2);
    for cause in causes.iter().take(causes_max) {
        lines.extend(cause_lines(cause, age));
    }
    if causes.len() > causes_max {
        lines.push(format!("  … and {}", counted((causes.len() - causes_max) as u64, "more causes")));
    }
    lines.extend(document["resources"].as_object().map(resources));
    if let Some(buckets) = document["buckets"].as_object() {
        lines.extend(bucket_lines(buckets, LINES_MAX - lines.len()));
    }
    lines
}

/// One line about an event of the stream.
pub(super) fn event_line(event: &Value) -> String {
    let cause = &event["cause"];
    let change = match event["change"].as_str() {
        Some("ended") => format!("ended after {}", duration(millis(&event["lasted_ms"]))),
        Some("passed") => format!("passed {}", count(&event["count"], "times")),
        _ => text(&event["change"]),
    };
    let (at, code) = (text(&event["at"]), text(&cause["code"]));
    format!("{at} {code} {change} ({}): {}", scope(&cause["scope"]), text(&cause["message"]))
}

/// The lines as one text.
pub(super) fn joined(lines: &[String], is_terminal: bool) -> String {
    lines.iter().map(|line| cut(line, is_terminal) + "\n").collect()
}

/// The line as it is shown.
pub(super) fn cut(line: &str, is_terminal: bool) -> String {
    match line.char_indices().nth(COLUMNS - 1) {
        Some((end, _)) if is_terminal && line.chars().count() > COLUMNS => format!("{}…", &line[..end]),
        _ => line.to_owned(),
    }
}

/// The process before this one, which drains after an upgrade.
fn predecessor(of: &Value) -> String {
    let (pid, version, drain) = (number(&of["pid"]), text(&of["version"]), &of["drain"]);
    let (requests, connections) =
        (count(&drain["requests"], "requests"), count(&drain["connections"], "connections"));
    format!("predecessor PID {pid} (version {version}) drains: {requests}, {connections}")
}

fn cause_lines(cause: &Value, age: Duration) -> [String; 2] {
    let until = match &cause["until"] {
        Value::Null => String::new(),
        until => format!(", until {}", text(until)),
    };
    let effect = &cause["effect"];
    let touched: Vec<String> = EFFECTS
        .iter()
        .filter(|name| effect[**name].as_u64() > Some(0))
        .map(|name| format!("{} {name}", number(&effect[*name])))
        .collect();
    let touched = if touched.is_empty() { String::new() } else { format!(" ({})", touched.join(", ")) };
    let since = duration(millis(&cause["since_ms"]) + age);
    [
        format!(
            "  {} {}, {}, for {since}{until}{touched}",
            text(&cause["severity"]),
            text(&cause["code"]),
            scope(&cause["scope"])
        ),
        format!("    {}", text(&cause["message"])),
    ]
}

/// `bucket photos: read`, `listener data`, `process`.
fn scope(scope: &Value) -> String {
    let kind = text(&scope["kind"]);
    match (scope["bucket"].as_str(), scope["name"].as_str()) {
        (Some(bucket), Some(name)) => {
            format!("bucket {}: {}", escape_controls(bucket), escape_controls(name))
        }
        (Some(bucket), None) => format!("bucket {}", escape_controls(bucket)),
        (None, Some(name)) => format!("{kind} {}", escape_controls(name)),
        (None, None) => kind,
    }
}

fn resources(resources: &Map<String, Value>) -> String {
    let percent = |(name, resource): (&String, &Value)| {
        let value = resource["pressure"].as_f64().map(|pressure| format!("{:.1} %", pressure * 100.0));
        format!("{} {}", escape_controls(name), value.unwrap_or_else(|| "unknown".to_owned()))
    };
    format!("resources: {}", resources.iter().map(percent).collect::<Vec<_>>().join(", "))
}

fn bucket_lines(buckets: &Map<String, Value>, lines_max: usize) -> Vec<String> {
    let shown = if buckets.len() > lines_max { lines_max.saturating_sub(1) } else { buckets.len() };
    let line = |(name, bucket): (&String, &Value)| {
        let pool = &bucket["pool"];
        format!(
            "bucket {}: {}, {} of {} in flight, {} of {} queued",
            escape_controls(name),
            circuit(bucket),
            number(&pool["in_flight"]),
            number(&pool["max_concurrent"]),
            number(&pool["queued"]),
            number(&pool["max_queued"]),
        )
    };
    let mut lines: Vec<String> = buckets.iter().take(shown).map(line).collect();
    if shown < buckets.len() && lines_max > 0 {
        lines.push(format!("… and {}", counted((buckets.len() - shown) as u64, "more buckets")));
    }
    lines
}

/// The state of the circuits: that of the last sample, or those of the document that are not closed.
fn circuit(bucket: &Value) -> String {
    if let Some(state) = bucket["circuit"].as_str() {
        return format!("circuit {}", circuit_state(state));
    }
    let circuits = bucket["breaker"].as_object().into_iter().flatten();
    let states = circuits.filter_map(|(class, circuit)| {
        let state = circuit["state"].as_str().filter(|state| *state != "closed")?;
        // The document has `open` until the request that is the first trial.
        let is_over = circuit["open_for_ms"].as_u64() == Some(0);
        let state = if is_over { "half_open" } else { state };
        Some(format!("circuit {} {}", escape_controls(class), circuit_state(state)))
    });
    let states: Vec<String> = states.collect();
    if states.is_empty() { "circuit closed".to_owned() } else { states.join(", ") }
}

fn circuit_state(state: &str) -> Cow<'_, str> {
    if state == "half_open" { "half-open".into() } else { escape_controls(state) }
}

fn text(value: &Value) -> String {
    escape_controls(value.as_str().unwrap_or("unknown")).into_owned()
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn count(value: &Value, unit: &str) -> String {
    value.as_u64().map_or_else(|| format!("? {unit}"), |number| counted(number, unit))
}

fn millis(value: &Value) -> Duration {
    Duration::from_millis(value.as_u64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(causes: usize, buckets: usize) -> Value {
        let cause = json!({ "severity": "critical", "code": "circuit_open", "message": "circuit read of bucket b is open",
            "scope": { "kind": "bucket", "bucket": "b", "name": "read" }, "since_ms": 61_000, "until": null,
            "effect": { "text": "x", "refused": 5, "slowed": 0, "stale": 0 } });
        let bucket = json!({ "breaker": { "mode": "on", "read": { "state": "open" }, "write": { "state": "closed" } },
            "pool": { "in_flight": 1, "max_concurrent": 2, "queued": 3, "max_queued": 4 } });
        let buckets: Map<String, Value> = (0..buckets).map(|at| (format!("b{at}"), bucket.clone())).collect();
        json!({ "status": "critical", "summary": "1 critical cause.", "version": "0.1.0", "uptime_ms": 90_061_000, "level": "normal",
            "requests_in_flight": 7, "causes": vec![cause; causes], "buckets": buckets,
            "resources": { "memory": { "pressure": 0.451 }, "descriptors": { "unknown": true } } })
    }

    /// X7: the lines say what is wrong, for how long, and what it did
    #[test]
    fn the_lines_are_for_people() {
        let lines = lines(&document(1, 1), "127.0.0.1:8090", Duration::from_secs(4));
        assert_eq!(
            lines,
            [
                "CRITICAL: 1 critical cause.",
                "tidegate 0.1.0 at 127.0.0.1:8090, up 1 d 1 h, level normal, 7 requests in flight",
                "  critical circuit_open, bucket b: read, for 1 min 5 s (5 refused)",
                "    circuit read of bucket b is open",
                "resources: descriptors unknown, memory 45.1 %",
                "bucket b0: circuit read open, 1 of 2 in flight, 3 of 4 queued",
            ]
        );
    }

    /// G8: after an upgrade the drain of the predecessor is a line
    #[test]
    fn a_predecessor_is_a_line() {
        let mut document = document(0, 0);
        let drain = json!({ "requests": 3, "connections": 1 });
        document["predecessors"] = json!([{ "pid": 7, "version": "0.1.0", "drain": drain }]);
        let line = "predecessor PID 7 (version 0.1.0) drains: 3 requests, 1 connection";
        assert_eq!(lines(&document, "h", Duration::ZERO)[2], line);
    }

    /// X7: a circuit is half-open as soon as its open time is over, as in its cause
    #[test]
    fn a_circuit_after_its_open_time_is_half_open() {
        for (circuit, expected) in [
            (json!({ "state": "open", "open_for_ms": 1 }), "circuit read open"),
            (json!({ "state": "open", "open_for_ms": 0 }), "circuit read half-open"),
            (json!({ "state": "half_open", "open_for_ms": null }), "circuit read half-open"),
        ] {
            let bucket = json!({ "breaker": { "mode": "on", "read": circuit } });
            assert_eq!(super::circuit(&bucket), expected, "{bucket}");
        }
        assert_eq!(circuit(&json!({ "circuit": "half_open" })), "circuit half-open");
    }

    /// X7: there are at most 20 lines, and what is left out is counted
    #[test]
    fn there_are_at_most_20_lines() {
        for causes in [0, 1, 7, 8, 500] {
            for buckets in [0, 1, 2, 3, 19, 100] {
                let mut document = document(causes, buckets);
                document["drain"] = json!({ "phase": "closing", "requests": 1 });
                document["predecessors"] = json!([{ "pid": 7 }]);
                let lines = lines(&document, "h", Duration::ZERO);
                assert!(lines.len() <= LINES_MAX, "{causes} {buckets}: {lines:#?}");
                let shown = lines.iter().filter(|line| line.starts_with("bucket ")).count();
                let more = lines
                    .last()
                    .and_then(|line| line.strip_prefix("… and ")?.split(' ').next()?.parse().ok());
                assert_eq!(shown + more.unwrap_or(0), buckets, "{causes}: {lines:#?}");
            }
        }
    }

    /// O2: nothing that the other end sends controls the terminal; a document of another kind is no panic
    #[test]
    fn text_is_escaped_and_cut() {
        let mut hostile = document(1, 1);
        hostile["summary"] = json!("\u{1b}[2Jgone\u{202e}\n\u{9b}x");
        hostile["causes"][0]["scope"]["name"] = json!("a\rb");
        for line in lines(&hostile, "h\u{7}", Duration::ZERO) {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
        for strange in
            [json!(null), json!({}), json!({ "causes": 1, "buckets": { "b": 1 }, "resources": { "r": 1 } })]
        {
            assert!(!lines(&strange, "h", Duration::ZERO).is_empty());
        }
        let long = "é".repeat(500);
        assert_eq!(cut(&long, true).chars().count(), COLUMNS);
        assert_eq!((cut(&long, false), cut("short", true)), (long.clone(), "short".to_owned()));
    }
}
