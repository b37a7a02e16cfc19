//! The reports of `tidegate simulate`: text, JSON and HTML, suggestions, several logs, and the order of requests.

use super::{access_line, configuration, report, side, simulate, write_log};
use crate::support::Scratch;

/// Ten requests per second of one client for 60 s.
fn steady() -> Vec<String> {
    (0..600).map(|at| access_line(at * 100, 50, "10.0.0.1", "")).collect()
}

/// O7: the text, the JSON and the page have the same figures; the page needs nothing from elsewhere
#[test]
fn all_reports_have_the_figures() {
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &steady());
    let [html, json] = ["report.html", "report.json"].map(|name| directory.path().join(name));
    let new = configuration("rate_limit.global.requests_per_second = 5\nrate_limit.global.burst = 10");
    let run = simulate(&new, &["--html", html.to_str().unwrap(), "--json", json.to_str().unwrap()], &[&log]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let refused = side(&report, "new")["refused_by_reason"]["rate_limit_global"].as_u64().unwrap();
    // 5 of 10 per second, and the burst once.
    assert!((285..=295).contains(&refused), "{report}");
    let row = run.stdout.lines().find(|line| line.trim_start().starts_with("rate_limit_global")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["rate_limit_global", "0", &refused.to_string()]);
    assert!(run.stdout.contains("10.0.0.1") && run.stdout.contains("not simulated"), "{}", run.stdout);
    assert!(!run.stderr.contains('['), "no progress without a terminal: {}", run.stderr);
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.matches("<svg").count() == 3 && page.contains(&format!("<td>{refused}</td>")), "{page}");
    for outside in ["<script", "src=", "@import", "url(", "<link", "http-equiv=\"refresh\""] {
        assert!(!page.contains(outside), "{outside}: {page}");
    }
    let timeline = report["timeline"].as_array().unwrap();
    assert_eq!((timeline.len(), &timeline[0]["begin"]), (60, &"2026-11-21T07:10:00.000Z".into()));
    assert_eq!(timeline[30]["new"]["limited"].as_u64().unwrap(), 5, "{}", timeline[30]);
}

/// O7: lines have the order of the ends; the replay has that of the starts, also over several logs
#[test]
fn requests_are_replayed_by_their_starts() {
    let directory = Scratch::new();
    // The long request begins first and ends last, so it gets the only permit and the others are refused.
    let long = access_line(0, 5_000, "10.0.0.9", "");
    let short: Vec<String> = (1..40).map(|at| access_line(at * 100, 1, "10.0.0.1", "")).collect();
    let mut lines = short.clone();
    lines.push(long.clone());
    let new =
        configuration("buckets.b.s3.concurrency.max_concurrent = 1\nbuckets.b.s3.concurrency.max_queued = 0");
    let log = write_log(directory.path(), "log", &lines);
    let whole = report(&new, &[], &[&log]);
    assert_eq!(side(&whole, "new")["refused_by_reason"]["queue_full"], 39, "{whole}");
    let even: Vec<String> = short.iter().step_by(2).cloned().collect();
    let odd: Vec<String> = short.iter().skip(1).step_by(2).cloned().collect();
    let logs = [("odd", odd), ("long", vec![long]), ("even", even)]
        .map(|(name, lines)| write_log(directory.path(), name, &lines));
    let split = report(&new, &[], &[&logs[0], &logs[1], &logs[2]]);
    assert_eq!(split["all"], whole["all"]);
}

/// O7: suggested limits refuse at most 0.1 % when they are used
#[test]
fn suggestions_refuse_little() {
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &steady());
    let suggested = report(&configuration(""), &["--suggest"], &[&log]);
    let suggestions = suggested["suggestions"].as_array().unwrap();
    let value = |key: &str| {
        let found = suggestions.iter().find(|suggestion| suggestion["key"] == key);
        found.unwrap_or_else(|| panic!("{key}: {suggestions:?}"))["value"].as_f64().unwrap()
    };
    let [rate, concurrent] =
        [value("rate_limit.per_ip.requests_per_second"), value("buckets.b.KIND.concurrency.max_concurrent")];
    assert!((9.0..=11.0).contains(&rate) && (1.0..=2.0).contains(&concurrent), "{rate} {concurrent}");
    let new = configuration(&format!(
        "rate_limit.per_ip.requests_per_second = {rate}\nbuckets.b.s3.concurrency.max_concurrent = {concurrent}"
    ));
    let used = report(&new, &[], &[&log]);
    assert_eq!(side(&used, "new")["refused"], 0, "{used}");
    let text = simulate(&configuration(""), &["--suggest"], &[&log]).stdout;
    assert!(text.contains(&format!("rate_limit.per_ip.requests_per_second = {rate}")), "{text}");
}

/// O7: buckets and keys that the new configuration does not have are named
#[test]
fn missing_buckets_are_named() {
    let directory = Scratch::new();
    let mut lines = steady();
    lines.truncate(5);
    lines.push(access_line(600, 5, "10.0.0.1", "").replace("\"bucket\":\"b\"", "\"bucket\":\"gone\""));
    lines.push(access_line(700, 5, "10.0.0.1", "\"key\":\"AKIA\","));
    let log = write_log(directory.path(), "log", &lines);
    let report = report(&configuration(""), &[], &[&log]);
    assert_eq!(report["log"]["missing_buckets"]["gone"], 1, "{report}");
    assert_eq!(report["log"]["missing_keys"], 1);
    assert_eq!(report["buckets"].as_array().unwrap().len(), 2);
}
