//! `tidegate incident`: the timeline from the log of a gateway that had an incident, and wrong arguments.

use std::time::Duration;

use serde_json::Value;

use super::{access_line, configuration, report, side, write_log};
use crate::support::{Gateway, Scratch, Upstream, UpstreamReply};

/// Runs `tidegate incident`.
fn incident(arguments: &[&str]) -> crate::support::gateway::ExitReport {
    let builder = Gateway::builder().argument("incident");
    arguments.iter().fold(builder, |builder, argument| builder.argument(argument)).run()
}

/// O7, X10: the timeline has the cause, the circuit, the refusals and the clients of a real incident
#[tokio::test]
async fn a_timeline_tells_what_happened() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.timeout_seconds", "0.5")
        .set("buckets.b.s3.circuit_breaker.success_threshold", "1")
        .start()
        .await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    crate::support::wait_for("the circuit refuses", || async {
        (gateway.get("/b/k").await.reason() == "breaker_open").then_some(())
    })
    .await;
    gateway.wait_for_log_line("degradation began", |line| line["code"] == "circuit_open").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &gateway.raw_log());
    let path = log.to_str().unwrap();
    let times = ["--from", "2000-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"];
    let text = incident(&[&times[..], &[path]].concat());
    assert_eq!(text.code, Some(0), "{text:?}");
    for part in [
        "transition circuit opened: bucket b, class ",
        "cause      degradation began: code circuit_open, severity ",
        "refusals   breaker_open in b: ",
        "127.0.0.1",
    ] {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }
    let json = incident(&[&times[..], &["--json", path]].concat());
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    let events = report["events"].as_array().unwrap();
    let at = |kind: &str, text: &str| {
        let fits = |event: &Value| event["kind"] == kind && event["text"].as_str().unwrap().starts_with(text);
        events.iter().position(fits).unwrap_or_else(|| panic!("{kind} {text}: {events:#?}"))
    };
    assert!(at("transition", "circuit opened") < at("cause", "degradation began"), "{events:#?}");
    assert!(at("transition", "circuit opened") <= at("refusals", "breaker_open"), "{events:#?}");
    assert!(report["refusals"][0]["count"].as_u64().unwrap() >= 1, "{report}");
    assert!(report["server_errors"].as_u64().unwrap() >= 6, "{report}");
}

/// O7: only the lines of the time count
#[test]
fn lines_outside_the_time_are_left_out() {
    let directory = Scratch::new();
    let refused = |at| access_line(at, 0, "10.0.0.7", "\"reason\":\"queue_full\",");
    let lines: Vec<String> = (0..100).map(|at| refused(at * 1_000)).collect();
    let log = write_log(directory.path(), "log", &lines);
    let run = incident(&[
        "--from",
        "2026-11-21T08:10:20+01:00",
        "--to",
        "2026-11-21T07:10:29Z",
        "--json",
        log.to_str().unwrap(),
    ]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    assert_eq!(
        (&report["requests"], &report["with_reason"], &report["outside"]),
        (&10.into(), &10.into(), &90.into())
    );
    assert_eq!(report["refusals"][0]["peak"], 10);
    assert_eq!(report["clients"][0]["client"], "10.0.0.7");
}

/// O7: requests that failed or broke after they were admitted are no refusals, as in `simulate`
#[test]
fn refusals_are_those_of_simulate() {
    let directory = Scratch::new();
    let with = |at: u64, client: &str, reason: &str, status: u16, attempts: u64| {
        access_line(at, 1, client, &format!("\"reason\":\"{reason}\","))
            .replace("\"status\":200", &format!("\"status\":{status}"))
            .replace("\"attempts\":1", &format!("\"attempts\":{attempts}"))
    };
    let mut lines: Vec<String> = (0..30).map(|at| with(at, "10.0.0.1", "client_gone", 200, 1)).collect();
    lines.extend((30..80).map(|at| with(at, "10.0.0.1", "upstream_reset", 502, 1)));
    lines.extend((80..84).map(|at| with(at, "10.0.0.2", "queue_full", 503, 0)));
    lines.extend((84..86).map(|at| with(at, "10.0.0.3", "signature_mismatch", 403, 0)));
    // Its second attempt was refused.
    lines.push(with(86, "10.0.0.2", "breaker_open", 503, 1));
    let log = write_log(directory.path(), "log", &lines);
    let arguments = ["--from", "2026-11-21T07:00:00Z", "--to", "2026-11-21T09:00:00Z"];
    let path = log.to_str().unwrap();
    let run = incident(&[&arguments[..], &["--json", path]].concat());
    let timeline: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let simulated = report(&configuration(""), &[], &[&log]);
    let of_incident: u64 =
        timeline["refusals"].as_array().unwrap().iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!((of_incident, &side(&simulated, "log")["refused"]), (7, &7.into()), "{timeline}");
    for row in timeline["refusals"].as_array().unwrap() {
        let reason = row["reason"].as_str().unwrap();
        assert_eq!(row["count"], side(&simulated, "log")["refused_by_reason"][reason], "{timeline}");
    }
    let other = serde_json::json!({"client_gone": 30, "upstream_reset": 50});
    assert_eq!((&timeline["with_reason"], &timeline["other_reasons"]), (&87.into(), &other), "{timeline}");
    let clients: Vec<(&str, u64)> = timeline["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["client"].as_str().unwrap(), row["refused"].as_u64().unwrap()))
        .collect();
    assert_eq!(clients, [("10.0.0.2", 5), ("10.0.0.3", 2), ("10.0.0.1", 0)]);
    let events = timeline["events"].to_string();
    assert!(!events.contains("client_gone") && !events.contains("upstream_reset"), "{events}");
    let text = incident(&[&arguments[..], &[path]].concat()).stdout;
    assert!(text.contains("87 with a reason of the gateway") && text.contains("other reasons"), "{text}");
}

/// O7: the timeline does not depend on the order of the logs
#[test]
fn logs_are_read_as_they_were_written() {
    let directory = Scratch::new();
    let refused = |at: u64| access_line(at, 0, "10.0.0.7", "\"reason\":\"queue_full\",");
    let of = |seconds: &[u64]| seconds.iter().map(|at| refused(at * 1_000)).collect::<Vec<_>>();
    let new = write_log(directory.path(), "log", &of(&[2_000, 2_001, 2_500]));
    let old = write_log(directory.path(), "log.1", &of(&[0, 1, 2, 200, 201, 900]));
    let other = write_log(directory.path(), "other", &of(&[3, 202, 2_002]));
    let times = ["--from", "2026-11-21T07:00:00Z", "--to", "2026-11-21T09:00:00Z", "--json"];
    let timeline = |logs: &[&std::path::Path]| -> Value {
        let paths: Vec<&str> = logs.iter().map(|log| log.to_str().unwrap()).collect();
        let run = incident(&[&times[..], &paths].concat());
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
    };
    let report = timeline(&[&new, &other, &old]);
    assert_eq!(report, timeline(&[&old, &other, &new]));
    let texts: Vec<&str> =
        report["events"].as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
    let period =
        |count: u64, end: &str| format!("queue_full in b: {count} requests until 2026-11-21T07:{end}.000Z");
    assert_eq!(
        texts,
        [period(4, "10:03"), period(3, "13:22"), period(1, "25:00"), period(3, "43:22"), period(1, "51:40")],
        "{report}"
    );
    assert_eq!(
        (&report["refusals"][0]["peak"], &report["counts"]["lines"]),
        (&4.into(), &12.into()),
        "{report}"
    );
}

/// O7: warnings displace no cause, no transition and no refusal
#[test]
fn warnings_have_a_share_of_the_timeline() {
    let directory = Scratch::new();
    let line = |at: u64, level: &str, message: &str| {
        format!(
            "{{\"ts\":\"2026-11-21T07:10:{:02}.{:03}Z\",\"level\":\"{level}\",\"msg\":\"{message}\",\"id\":\"{at}\",\"bucket\":\"b\"}}",
            at / 1_000,
            at % 1_000
        )
    };
    let mut lines: Vec<String> = (0..11_000).map(|at| line(at, "WARN", "transfer broken")).collect();
    lines.push(line(11_000, "WARN", "degradation began"));
    lines.push(line(11_001, "WARN", "circuit opened"));
    lines.push(line(11_002, "ERRO", "panic"));
    lines.push(access_line(12_000, 0, "10.0.0.7", "\"reason\":\"queue_full\","));
    let log = write_log(directory.path(), "log", &lines);
    let times = ["--from", "2026-11-21T07:00:00Z", "--to", "2026-11-21T09:00:00Z", "--json"];
    let run = incident(&[&times[..], &[log.to_str().unwrap()]].concat());
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let kinds: Vec<&str> =
        report["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 4..], ["cause", "transition", "warning", "refusals"], "{kinds:?}");
    assert_eq!((kinds.len(), &report["warnings_left_out"]), (204, &10_800.into()));
}

/// Wrong times and logs are named.
#[test]
fn wrong_arguments_are_named() {
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &["no log".to_owned()]);
    let path = log.to_str().unwrap();
    let (early, late) = ("2026-11-21T07:00:00Z", "2026-11-21T08:00:00Z");
    for (arguments, code, word) in [
        (vec!["--from", "yesterday", "--to", late, path], 2, "RFC 3339"),
        (
            vec!["--from", "2026", "--to", late, path],
            2,
            "'--from <TIME>': this is no valid date and time in RFC 3339; write 20",
        ),
        (vec!["--from", late, "--to", early, path], 2, "--from is after --to"),
        (vec!["--from", early, "--to", late, "/nonexistent"], 2, "cannot open"),
        (vec!["--from", early, "--to", late], 2, "<LOG>"),
        (vec!["--from", early, "--to", late, path], 1, "1 are no lines of tidegate's log"),
        (
            vec!["--from", early, "--to", late, "-c", path, path],
            2,
            "incident reads no configuration; leave out --config",
        ),
        (vec!["--from", early, "--to", late, "--strict", path], 2, "leave out --strict"),
    ] {
        let run = incident(&arguments);
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(run.stderr.contains(word), "{word}: {run:?}");
    }
}
