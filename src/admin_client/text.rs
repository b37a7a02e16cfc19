//! Texts for people that several commands print: durations, and the line of a drain.

use std::time::Duration;

use serde_json::Value;
use tidegate::telemetry::{counted, escape_controls, requests_by_bucket};

/// The two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// What a drain still waits for, from `drain` of the status document.
pub(crate) fn drain_line(drain: &Value) -> String {
    let number = |name: &str| drain[name].as_u64().unwrap_or_default();
    if let Some(cut_off) = drain["cut_off"].as_u64() {
        let buckets = if cut_off == 0 { String::new() } else { in_parentheses(&drain["buckets"]) };
        return match cut_off {
            0 => "drained: every request has ended".to_owned(),
            _ => format!("drained: {}{buckets} cut off", counted(cut_off, "requests")),
        };
    }
    let mut parts =
        vec![format!("{}{}", counted(number("requests"), "requests"), in_parentheses(&drain["buckets"]))];
    parts.push(counted(number("streams"), "streams"));
    parts.push(counted(number("connections"), "connections"));
    if let Some(age) = drain["oldest_ms"].as_u64() {
        let bucket = drain["oldest_bucket"].as_str();
        let bucket = bucket.map(|name| format!(" in {}", escape_controls(name))).unwrap_or_default();
        parts.push(format!("the oldest for {}{bucket}", duration(Duration::from_millis(age))));
    }
    let left = Duration::from_millis(number("remaining_ms"));
    let phase = escape_controls(drain["phase"].as_str().unwrap_or("unknown")).replace('_', " ");
    format!("draining ({phase}): {}; {} left", parts.join(", "), duration(left))
}

/// ` (photos 2, videos 1)`
fn in_parentheses(buckets: &Value) -> String {
    let counts = buckets.as_object().into_iter().flatten();
    match requests_by_bucket(counts.filter_map(|(name, count)| Some((name.as_str(), count.as_u64()?)))) {
        text if text.is_empty() => text,
        text => format!(" ({text})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// G4: the line has what the drain waits for, and then what it cut off
    #[test]
    fn a_drain_is_one_line() {
        let mut drain = json!({ "phase": "ending_streams", "remaining_ms": 61_000, "requests": 3, "streams": 1, "connections": 4,
            "oldest_ms": 12_345, "oldest_bucket": "photos", "buckets": { "videos": 1, "photos": 2 }, "cut_off": null });
        assert_eq!(
            drain_line(&drain),
            "draining (ending streams): 3 requests (photos 2, videos 1), 1 stream, 4 connections, the oldest for 12 s in photos; \
             1 min 1 s left"
        );
        drain["cut_off"] = json!(3);
        assert_eq!(drain_line(&drain), "drained: 3 requests (photos 2, videos 1) cut off");
        drain["cut_off"] = json!(0);
        assert_eq!(drain_line(&drain), "drained: every request has ended");
    }

    /// O2, G4: nothing that the other end sends controls the terminal, and the buckets are bounded
    #[test]
    fn a_line_is_bounded_and_escaped() {
        let buckets: serde_json::Map<String, Value> =
            (0..300).map(|at| (format!("b\u{1b}{at:03}"), json!(1))).collect();
        let line = drain_line(
            &json!({ "phase": "\u{9b}x", "oldest_ms": 1, "oldest_bucket": "a\rb", "buckets": buckets }),
        );
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.contains("and 292 more buckets"), "{line}");
        assert!(drain_line(&Value::Null).starts_with("draining (unknown): 0 requests"));
    }
}
