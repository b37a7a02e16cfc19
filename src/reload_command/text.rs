//! The result of a reload as lines for people: the result, each change, each problem with its fix.

use serde_json::Value;
use tidegate::telemetry::{counted, escape_controls};

/// The lines. All text of the gateway is escaped.
pub(super) fn lines(reply: &Value, host: &str) -> Vec<String> {
    let list = |name: &str| reply[name].as_array().map_or(&[][..], Vec::as_slice);
    let (changes, problems) = (list("changes"), list("problems"));
    let number = reply["configuration"].as_u64();
    let differ = counted(changes.len() as u64, "changed keys");
    let first = match (reply["result"].as_str().unwrap_or_default(), number) {
        ("applied", Some(number)) => format!("applied: configuration {number} is in use, {differ}"),
        ("unchanged", _) => "unchanged: the running gateway has this configuration".to_owned(),
        ("applicable", _) => format!("applicable: a reload would apply it, {differ}"),
        (_, Some(number)) => format!(
            "refused: configuration {number} stays in use, {}",
            counted(problems.len() as u64, "problems")
        ),
        _ => format!("refused: {}", counted(problems.len() as u64, "problems")),
    };
    let mut lines = vec![format!("{first} ({})", escape_controls(host))];
    lines.extend(changes.iter().map(|change| format!("  {}", change_line(change))));
    lines.extend(problems.iter().map(|problem| format!("problem: {}", problem_line(problem))));
    lines.extend(list("warnings").iter().map(|warning| format!("warning: {}", problem_line(warning))));
    if let Some(hidden) = reply["hidden"].as_u64().filter(|hidden| *hidden > 0) {
        let values = counted(hidden, "hidden values");
        lines.push(format!("note: {values} could not be compared; a reload finds whether they changed"));
    }
    lines
}

fn change_line(change: &Value) -> String {
    let (key, origin) = (text(&change["key"]), origin(&change["origin"]));
    let unit = &change["unit"];
    match change["change"].as_str() {
        Some("added") => format!("+ {key} = {}{origin}", shown(&change["new"], unit)),
        Some("removed") => format!("- {key} = {}{origin}", shown(&change["old"], unit)),
        _ => format!("~ {key}: {}{origin}", values(change)),
    }
}

/// Both values, or that a hidden one changed.
pub(super) fn values(change: &Value) -> String {
    let (old, new) = (shown(&change["old"], &change["unit"]), shown(&change["new"], &change["unit"]));
    if old == new { "changed".to_owned() } else { format!("{old} → {new}") }
}

fn shown(value: &Value, unit: &Value) -> String {
    match (value, unit.as_str()) {
        (Value::Null, _) => "(not set)".to_owned(),
        (Value::Number(number), Some(unit)) => format!("{number} {}", escape_controls(unit)),
        (value, _) => escape_controls(&value.to_string()).into_owned(),
    }
}

fn problem_line(problem: &Value) -> String {
    let hint = problem["hint"].as_str().map(|hint| format!("; {}", escape_controls(hint)));
    let (key, message) = (text(&problem["key"]), text(&problem["message"]));
    format!("{key}: {message}{}{}", origin(&problem["origin"]), hint.unwrap_or_default())
}

/// ` (from FILE, line 3)`
fn origin(origin: &Value) -> String {
    let name = text(&origin["name"]);
    match (origin["kind"].as_str(), origin["line"].as_u64()) {
        (Some("file"), Some(line)) => format!(" (from {name}, line {line})"),
        (Some("file" | "variable"), _) => format!(" (from {name})"),
        (Some("argument"), _) => " (from --config)".to_owned(),
        (Some("default"), _) => " (default)".to_owned(),
        _ => String::new(),
    }
}

fn text(value: &Value) -> String {
    escape_controls(value.as_str().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// G3, O2: each change and each problem is one line, and no text of the gateway controls a terminal
    #[test]
    fn a_reply_is_lines() {
        let from = |line: Value| json!({ "kind": "file", "name": "/etc/t.toml", "line": line });
        let reply = json!({
            "result": "refused", "configuration": 2,
            "changes": [
                { "key": "server.keep_alive", "change": "changed", "old": 75, "new": 7, "unit": "s", "origin": from(json!(3)) },
                { "key": "admin.token", "change": "changed", "old": "(set)", "new": "(set)", "unit": null,
                  "origin": { "kind": "variable", "name": "TIDEGATE_ADMIN__TOKEN", "line": null } },
                { "key": "buckets.\u{1b}[2J.kind", "change": "added", "old": null, "new": "http", "unit": null, "origin": from(Value::Null) },
                { "key": "s3.region", "change": "removed", "old": null, "new": null, "unit": null, "origin": { "kind": "default" } },
            ],
            "problems": [{ "key": "server.port", "message": "cannot change", "hint": "restart", "origin": from(json!(2)) }],
            "warnings": [{ "key": "admin.chaos", "message": "is on", "hint": null, "origin": { "kind": "system" } }],
            "hidden": 1,
        });
        assert_eq!(
            lines(&reply, "127.0.0.1:1"),
            [
                "refused: configuration 2 stays in use, 1 problem (127.0.0.1:1)",
                "  ~ server.keep_alive: 75 s → 7 s (from /etc/t.toml, line 3)",
                "  ~ admin.token: changed (from TIDEGATE_ADMIN__TOKEN)",
                "  + buckets.\\u001b[2J.kind = \"http\" (from /etc/t.toml)",
                "  - s3.region = (not set) (default)",
                "problem: server.port: cannot change (from /etc/t.toml, line 2); restart",
                "warning: admin.chaos: is on",
                "note: 1 hidden value could not be compared; a reload finds whether they changed",
            ]
        );
        for (result, line) in [
            ("applied", "applied: configuration 2 is in use, 0 changed keys (h)"),
            ("unchanged", "unchanged: the running gateway has this configuration (h)"),
            ("applicable", "applicable: a reload would apply it, 0 changed keys (h)"),
        ] {
            assert_eq!(lines(&json!({ "result": result, "configuration": 2 }), "h"), [line]);
        }
    }
}
