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
        [value("rate_limit.per_ip.requests_per_second"), value("buckets.b.s3.concurrency.max_concurrent")];
    assert!((9.0..=11.0).contains(&rate) && (1.0..=2.0).contains(&concurrent), "{rate} {concurrent}");
    let new = configuration(&format!(
        "rate_limit.per_ip.requests_per_second = {rate}\nbuckets.b.s3.concurrency.max_concurrent = {concurrent}"
    ));
    let used = report(&new, &[], &[&log]);
    assert_eq!(side(&used, "new")["refused"], 0, "{used}");
    let text = simulate(&configuration(""), &["--suggest"], &[&log]).stdout;
    assert!(text.contains(&format!("rate_limit.per_ip.requests_per_second = {rate}")), "{text}");
}

/// O7: the suggested length of a queue is what a queue without a bound would have needed
#[test]
fn a_suggested_queue_has_the_length_that_was_needed() {
    let directory = Scratch::new();
    // 40 times 20 requests at once: 2 get permits.
    let lines: Vec<String> = (0..800).map(|at| access_line(at / 20 * 1_500, 50, "10.0.0.1", "")).collect();
    let log = write_log(directory.path(), "log", &lines);
    let new = |queued: u64| {
        configuration(&format!(
            "buckets.b.s3.concurrency.max_concurrent = 2\nbuckets.b.s3.concurrency.max_queued = {queued}"
        ))
    };
    for queued in [0, 3, 100] {
        let report = report(&new(queued), &["--suggest"], &[&log]);
        let suggestions = report["suggestions"].as_array().unwrap();
        let of_queue = |one: &&serde_json::Value| one["key"] == "buckets.b.s3.concurrency.max_queued";
        let suggestion = suggestions.iter().find(of_queue).unwrap();
        assert_eq!(
            (&suggestion["value"], &suggestion["refused"]),
            (&18.0.into(), &0.into()),
            "{suggestions:?}"
        );
    }
    for (queued, refused) in [(18, 0), (17, 40)] {
        assert_eq!(side(&report(&new(queued), &[], &[&log]), "new")["refused"], refused);
    }
}

/// O7, X11: the suggested length of a queue does not depend on the cursor, which refuses requests before the queue
#[test]
fn a_suggested_queue_is_one_without_a_cursor() {
    let directory = Scratch::new();
    // 100 requests per second for 8 s at 40 that the gate admits.
    let lines: Vec<String> =
        (0..800).map(|at| access_line(at * 10, 100, &format!("10.0.1.{}", at % 10), "")).collect();
    let log = write_log(directory.path(), "log", &lines);
    let run = |queued: u64, shedding: &str| {
        let keys = format!("max_concurrent = 4\nmax_queued = {queued}\nqueue_timeout_ms = 4000\n{shedding}");
        let keys: String = keys.lines().map(|key| format!("buckets.b.s3.concurrency.{key}\n")).collect();
        report(&configuration(&keys), &["--suggest"], &[&log])
    };
    let suggested = |report: &serde_json::Value| {
        let suggestions = report["suggestions"].as_array().unwrap().iter();
        let mut of_queue = suggestions.filter(|one| one["key"] == "buckets.b.s3.concurrency.max_queued");
        of_queue.next().unwrap_or_else(|| panic!("{report}"))["value"].as_f64().unwrap()
    };
    let off = run(500, "shedding.mode = \"off\"");
    let length = suggested(&off);
    // 4 s at 40 per second: a request behind more of them would wait for longer than the timeout, and is refused at any length.
    assert!((155.0..=165.0).contains(&length), "{off}");
    for shedding in ["shedding.target_wait_ms = 100", "shedding.target_wait_ms = 300", ""] {
        let report = run(500, shedding);
        let shed = side(&report, "new")["refused_by_reason"]["shed_bucket"].as_u64().unwrap_or_default();
        assert!(shed > 100, "{shedding}: {report}");
        assert_eq!(suggested(&report), length, "{shedding}: {report}");
    }
    // A shorter queue refuses more requests than the timeout does.
    let refused =
        |length: f64| side(&run(length as u64, "shedding.mode = \"off\""), "new")["refused"].clone();
    assert_eq!(refused(length), side(&off, "new")["refused"], "{off}");
    assert!(refused(length - 50.0).as_u64() > refused(length).as_u64(), "{off}");
}

/// O7, X11: the cursor of a bucket refuses, by bucket, client, reason and over time; it has its modes; equal runs are equal
#[test]
fn the_cursor_of_a_bucket_is_replayed() {
    let directory = Scratch::new();
    // 100 requests per second for 20 s at 40 that the gate admits. The first client sends 60 of them, in the lowest class.
    let line = |at: u64| match at % 10 {
        0..6 => {
            access_line(at * 10, 100, "10.0.0.1", "").replace("\"class\":\"read\"", "\"class\":\"write\"")
        }
        client => access_line(at * 10, 100, &format!("10.0.1.{client}"), ""),
    };
    let lines: Vec<String> = (0..2_000).map(line).collect();
    let log = write_log(directory.path(), "log", &lines);
    let run = |mode: &str| {
        let keys = format!(
            "max_concurrent = 4\nmax_queued = 500\nqueue_timeout_ms = 4000\npriority.write = \"low\"\n\
             shedding.mode = \"{mode}\"\nshedding.target_wait_ms = 100\n"
        );
        let keys: String = keys.lines().map(|key| format!("buckets.b.s3.concurrency.{key}\n")).collect();
        report(&configuration(&keys), &[], &[&log])
    };
    let enforced = run("enforce");
    let refused = side(&enforced, "new")["refused_by_reason"]["shed_bucket"].as_u64().unwrap();
    assert!((900..1_300).contains(&refused), "{enforced}");
    assert_eq!(enforced["buckets"][0]["sides"][1]["refused_by_reason"]["shed_bucket"], refused);
    let clients = enforced["clients"].as_array().unwrap();
    assert_eq!(clients[0]["client"], "10.0.0.1", "{enforced}");
    let of_lowest = clients[0]["refused_by_new"].as_u64().unwrap();
    assert!(of_lowest * 10 > refused * 9, "{clients:?}");
    let rows = enforced["timeline"].as_array().unwrap();
    let over_time: u64 = rows.iter().map(|row| row["new"]["shed"].as_u64().unwrap()).sum();
    assert!(over_time == refused && rows[0]["new"]["shed"].as_u64().unwrap() < 60, "{enforced}");
    assert_eq!(run("enforce"), enforced);
    let shadowed = run("shadow");
    assert!(side(&shadowed, "new")["refused_by_reason"].get("shed_bucket").is_none(), "{shadowed}");
    assert!(shadowed["shadowed"]["shed_bucket"].as_u64().unwrap() > 500, "{shadowed}");
    let off = run("off");
    assert!(off["shadowed"].get("shed_bucket").is_none(), "{off}");
    assert_eq!(side(&off, "new")["refused_by_reason"], side(&shadowed, "new")["refused_by_reason"]);
}

/// An access line of a request that the gateway refused before a call.
fn refused_line(start_ms: u64, status: u16, reason: &str) -> String {
    access_line(start_ms, 1, "10.0.0.1", &format!("\"reason\":\"{reason}\","))
        .replace("\"attempts\":1,", "\"attempts\":0,")
        .replace("\"queue_us\":0,", "")
        .replace("\"status\":200", &format!("\"status\":{status}"))
}

/// O7: all refusals of the gateway count for the log; the process's cursor and the levels, which a replay does not have, refuse nothing
#[test]
fn other_refusals_of_the_log_are_counted() {
    let directory = Scratch::new();
    let mut lines = steady()[..10].to_vec();
    for (at, reason) in ["shed", "shed_bucket", "shed_upload", "exhausted"].iter().enumerate() {
        lines.extend((0..5).map(|_| refused_line(2_000 + at as u64, 503, reason)));
    }
    lines.extend((0..7).map(|_| refused_line(3_000, 403, "signature_mismatch")));
    // A transfer that its client broke was admitted.
    lines.push(access_line(4_000, 1, "10.0.0.1", "\"reason\":\"client_gone\","));
    let log = write_log(directory.path(), "log", &lines);
    let html = directory.path().join("report.html");
    let report = report(&configuration(""), &["--html", html.to_str().unwrap()], &[&log]);
    let (logged, new) = (side(&report, "log"), side(&report, "new"));
    assert_eq!((&logged["admitted"], &logged["refused"]), (&11.into(), &27.into()), "{report}");
    for (reason, count) in
        [("shed", 5), ("shed_bucket", 5), ("shed_upload", 5), ("exhausted", 5), ("signature_mismatch", 7)]
    {
        assert_eq!(logged["refused_by_reason"][reason], count, "{report}");
    }
    assert_eq!((&new["admitted"], &new["refused"]), (&31.into(), &7.into()), "{report}");
    assert_eq!((&report["newly_admitted"], &report["newly_refused"]), (&20.into(), &0.into()));
    assert_eq!(
        (&report["log"]["estimated"], &report["timeline"][2]["log"]["other"]),
        (&20.into(), &15.into())
    );
    assert_eq!(report["timeline"][2]["log"]["shed"], 5, "{report}");
    let sentences = report["not_simulated"].to_string();
    for part in ["shedding.mode", "actions.shed_requests", "shed_upload or exhausted"] {
        assert!(sentences.contains(part), "{part}: {sentences}");
    }
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(
        page.contains("signature_mismatch") && page.contains("20 of the requests that the log refused"),
        "{page}"
    );
}

/// O7: the text and the page have the same notes
#[test]
fn the_text_and_the_page_have_the_same_notes() {
    let directory = Scratch::new();
    let mut lines: Vec<String> = (0..5).map(|_| refused_line(0, 503, "shed")).collect();
    lines.push(refused_line(10, 404, "no_such_bucket"));
    lines.push("damaged".to_owned());
    let log = write_log(directory.path(), "log", &lines);
    let html = directory.path().join("report.html");
    let new = configuration(
        "rate_limit.global.requests_per_second = 1\nrate_limit.global.burst = 1\nrate_limit.global.mode = \"shadow\"",
    );
    let run = simulate(&new, &["--html", html.to_str().unwrap()], &[&log]);
    let page = std::fs::read_to_string(&html).unwrap();
    for note in [
        "1 lines are cut",
        "5 of the requests that the log refused had called no store",
        "5 of these have no request before them to estimate from: 10 ms are assumed",
        "1 requests ended with no_such_bucket",
        "the log refused and new admits: 5",
        "shadow mode of new would refuse: 5 (rate_limit_global)",
    ] {
        assert!(run.stdout.contains(note) && page.contains(note), "{note}: {run:?} {page}");
    }
}

/// O7: the limit of requests in flight of one client has its mode
#[test]
fn a_limit_of_a_client_has_its_mode() {
    let directory = Scratch::new();
    let lines: Vec<String> = (0..5).map(|_| access_line(0, 500, "10.0.0.1", "")).collect();
    let log = write_log(directory.path(), "log", &lines);
    for (mode, refused, shadowed) in [("enforce", 3, 0), ("shadow", 0, 3), ("off", 0, 0)] {
        let new = configuration(&format!(
            "concurrency.max_per_client = 2\nconcurrency.max_per_client_mode = \"{mode}\""
        ));
        let report = report(&new, &[], &[&log]);
        assert_eq!(side(&report, "new")["refused"], refused, "{mode}: {report}");
        assert_eq!(
            report["shadowed"]["client_concurrency"].as_u64().unwrap_or(0),
            shadowed,
            "{mode}: {report}"
        );
    }
}

/// O7: subjects beyond the maximum do not share the limit of one subject
#[test]
fn untracked_subjects_share_no_limit() {
    const TRACKED: u64 = 100_000;
    let directory = Scratch::new();
    // Each subject sends one request. The log has only the fields that a replay needs, because it is long.
    let line = |at: u64| {
        format!(
            "{{\"ts\":\"2026-11-21T07:10:{:02}.{:03}Z\",\"msg\":\"request\",\"bucket\":\"b\",\"status\":200,\
             \"subject\":\"s{at}\",\"class\":\"read\",\"attempts\":1,\"total_us\":100}}",
            at / 10_000,
            at / 10 % 1_000
        )
    };
    let lines: Vec<String> = (0..TRACKED + 50).map(line).collect();
    let log = write_log(directory.path(), "log", &lines);
    let new = configuration(
        "rate_limit.per_subject.requests_per_second = 0.001\nrate_limit.per_subject.burst = 1\nconcurrency.max_per_client = 1",
    );
    let report = report(&new, &[], &[&log]);
    assert_eq!(side(&report, "new")["refused"], 0, "{report}");
    assert_eq!(
        (&report["log"]["untracked"], &side(&report, "new")["admitted"]),
        (&50.into(), &100_050.into())
    );
    assert!(report["not_simulated"].to_string().contains("beyond the first 100,000"), "{report}");
}

/// O7: a bucket that the new configuration does not have is refused, after the limits of the head; such buckets and keys are named
#[test]
fn missing_buckets_are_named() {
    let directory = Scratch::new();
    let mut lines = steady();
    lines.truncate(5);
    let gone = |line: &str| line.replace("\"bucket\":\"b\"", "\"bucket\":\"gone\"");
    lines.push(gone(&access_line(600, 5, "10.0.0.1", "")));
    // The gateway routes before it authenticates.
    lines.push(gone(&refused_line(650, 403, "signature_mismatch")));
    lines.push(access_line(700, 5, "10.0.0.1", "\"key\":\"AKIA\","));
    let log = write_log(directory.path(), "log", &lines);
    let old = directory.path().join("old.toml");
    std::fs::write(&old, configuration("").replace("buckets.b.", "buckets.gone.")).unwrap();
    let compared = report(&configuration(""), &["--against", old.to_str().unwrap()], &[&log]);
    assert_eq!(compared["log"]["missing_buckets"]["gone"], 2, "{compared}");
    assert_eq!(compared["log"]["missing_keys"], 1);
    assert_eq!(compared["buckets"].as_array().unwrap().len(), 2);
    let new = side(&compared, "new");
    assert_eq!((&new["admitted"], &new["refused"]), (&6.into(), &2.into()), "{compared}");
    assert_eq!(new["refused_by_reason"], serde_json::json!({ "no_such_bucket": 2 }));
    assert_eq!(compared["newly_refused"], 1, "the log refused the other one: {compared}");
    let of_old = &side(&compared, "against")["refused_by_reason"];
    assert_eq!(*of_old, serde_json::json!({ "no_such_bucket": 6, "signature_mismatch": 1 }), "{compared}");
    let limit = "rate_limit.global.requests_per_second = 0.001\nrate_limit.global.burst = 6";
    let limited = report(&configuration(limit), &[], &[&log]);
    let reasons = &side(&limited, "new")["refused_by_reason"];
    assert_eq!(*reasons, serde_json::json!({ "no_such_bucket": 1, "rate_limit_global": 2 }), "{limited}");
}

/// O7: a row of the page's tables has the requests that began in its time
#[test]
fn the_rows_of_the_page_have_their_times() {
    let directory = Scratch::new();
    let mut lines: Vec<String> = (0..20).map(|at| access_line(at * 1_000, 1, "10.0.0.1", "")).collect();
    lines.extend((0..6).map(|at| access_line(4_100 + at, 1, "10.0.0.1", "")));
    let log = write_log(directory.path(), "log", &lines);
    let html = directory.path().join("report.html");
    let run = simulate(&configuration(""), &["--html", html.to_str().unwrap()], &[&log]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let page = std::fs::read_to_string(&html).unwrap();
    let rows: Vec<&str> = page.split("<tr>").filter(|row| row.contains(" to 07:")).take(10).collect();
    // All of the second 4 are in its row, and the rows span the time of the log.
    let busy = "<th scope=\"row\">07:10:04 to 07:10:06</th><td>1</td><td>4</td><td>7</td>";
    assert!(rows[7].starts_with(busy), "{rows:#?}");
    assert!(
        rows[0].contains("07:10:18 to 07:10:20") && rows[9].contains("07:10:00 to 07:10:02"),
        "{rows:#?}"
    );
}
