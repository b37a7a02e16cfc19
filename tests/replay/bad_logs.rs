//! Logs that are damaged, of other formats, of older versions, or mixed: a clear answer each.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{access_line, configuration, report, side, simulate, write_log};
use crate::support::{Gateway, Scratch};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn lines(count: u64) -> Vec<String> {
    (0..count).map(|at| access_line(at * 10, 5, "10.0.0.1", "")).collect()
}

/// A log without a usable line ends with 1 and names the cause and the remedy.
#[test]
fn logs_of_other_programs_are_refused() {
    let directory = Scratch::new();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let nginx = "127.0.0.1 - - [21/Nov/2026:07:11:32 +0000] \"GET / HTTP/1.1\" 200 5\n".repeat(3);
    for (path, words) in [
        (write("nginx", nginx.as_bytes()), ["3 are no lines of tidegate's log", "log.access"]),
        (write("binary", &[0x7f, b'E', b'L', b'F', 0, 0, 1, 2]), ["is a binary file", "log.format"]),
        (write("zstd", &[0x28, 0xb5, 0x2f, 0xfd, 9, 9]), ["compressed with zstd", "zstdcat"]),
        (write("empty", b""), ["there are no lines", "log.access"]),
        (write("huge", &vec![b'x'; 3 << 20]), ["1 are too long", "log.access"]),
        (write("other", b"{\"a\":1}\n{\"msg\":5}\n[1,2]\n"), ["3 are no lines", "log.access"]),
    ] {
        let run = simulate(&configuration(""), &[], &[&path]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{words:?}: {run:?}");
    }
}

/// Wrong arguments end with 2, a wrong configuration with 78, an unwritable report with 73.
#[test]
fn wrong_arguments_are_named() {
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines(3));
    let missing = directory.path().join("missing");
    let bad = directory.path().join("bad.toml");
    std::fs::write(&bad, "[log]\nformat = \"x\"\n").unwrap();
    let new = configuration("");
    for (run, code, word) in [
        (simulate(&new, &[], &[]), 2, "<LOG>"),
        (simulate(&new, &[], &[&missing]), 2, "cannot open"),
        (simulate(&new, &[], &[directory.path()]), 2, "is a directory"),
        (simulate(&new, &["-", "-"], &[]), 2, "more than once"),
        (simulate("", &[], &[&log]), 2, "no bucket is configured"),
        (simulate("[log]\nformat = \"x\"\n", &[], &[&log]), 78, "log.format"),
        (simulate(&new, &["--against", bad.to_str().unwrap()], &[&log]), 78, "log.format"),
        (simulate(&new, &["--html", "/nonexistent/x.html"], &[&log]), 73, "cannot be written"),
        (simulate(&new, &["--html", log.to_str().unwrap()], &[&log]), 2, "is a log of this replay"),
        (
            simulate(&new, &["--json", "/tmp/../tmp/r", "--html", "/tmp/../tmp/r"], &[&log]),
            2,
            "the other report",
        ),
    ] {
        assert_eq!(run.code, Some(code), "{run:?}");
        let named =
            run.stderr.contains(word) || word == "cannot be opened" && run.stderr.contains("cannot open");
        assert!(named, "{word}: {run:?}");
    }
}

/// Damaged lines, other messages and lines of older versions are counted, and the others are used.
#[test]
fn mixed_logs_are_counted() {
    let directory = Scratch::new();
    let mut all = lines(100);
    let cut = all[50][..200].to_owned();
    all.insert(50, cut);
    all.insert(10, "{\"ts\":\"2026-11-21T07:10:00.100Z\",\"level\":\"INFO\",\"msg\":\"circuit opened\",\"bucket\":\"b\"}".to_owned());
    all.insert(20, all[0].replace(",\"total_us\":5000", ""));
    all.insert(30, "\u{fffd}\u{0}x".to_owned());
    let old = all[0].replace(",\"class\":\"read\",\"cost\":1", "");
    let start = old.find("\"start_us\"").unwrap();
    let old = format!("{}\"total_us\":5000}}", &old[..start]);
    all.push(old);
    all.push("2026-11-21T07:10:02.000Z INFO request, id: 1, method: PUT, path: /b/k, bucket: b, status: 200, client: 10.0.0.1, attempts: 1, total_us: 7".to_owned());
    let log = write_log(directory.path(), "log", &all);
    let report = report(&configuration(""), &[], &[&log]);
    let counts = &report["log"]["counts"];
    let count = |name: &str| counts[name].as_u64().unwrap();
    assert_eq!([count("lines"), count("requests"), count("other_messages")], [106, 102, 1], "{report}");
    assert_eq!([count("malformed"), count("incomplete")], [2, 1], "{report}");
    assert_eq!(report["log"]["class_derived"], 2);
    assert_eq!(side(&report, "new")["admitted"], 102);
}

/// A compressed log that ends early is used up to there, and the report has the problem.
#[test]
fn a_cut_compressed_log_is_used() {
    let directory = Scratch::new();
    let text: String = lines(5_000).iter().map(|line| format!("{line}\n")).collect();
    let whole = gzip(&text);
    let path = directory.path().join("log.gz");
    std::fs::write(&path, &whole).unwrap();
    let complete = report(&configuration(""), &[], &[&path]);
    assert_eq!(side(&complete, "new")["requests"], 5_000);
    assert_eq!(complete["log"]["problems"].as_array().unwrap().len(), 0);
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let cut = report(&configuration(""), &[], &[&path]);
    let requests = side(&cut, "new")["requests"].as_u64().unwrap();
    assert!(requests > 1_000 && requests < 4_500, "{requests}");
    assert!(cut["log"]["problems"][0]["problem"].as_str().unwrap().contains("ends early"), "{cut}");
}

/// Times from 1970 to 9999 and durations of a year need no memory, and nothing overflows.
#[test]
fn far_times_are_replayed() {
    let directory = Scratch::new();
    let line = |year: u64, total: u64| {
        format!(
            "{{\"ts\":\"{year}-01-02T00:00:00.000Z\",\"level\":\"INFO\",\"msg\":\"request\",\"method\":\"GET\",\"bucket\":\"b\",\
             \"client\":\"10.0.0.1\",\"attempts\":1,\"queue_us\":0,\"total_us\":{total}}}"
        )
    };
    let lines = [line(1970, 10), line(2026, 31_000_000_000_000), line(9999, 10), line(9999, u64::MAX)];
    let log = write_log(directory.path(), "log", &lines);
    let new = configuration("rate_limit.per_ip.requests_per_second = 0.001");
    let far = report(&new, &["--suggest"], &[&log]);
    assert_eq!(
        (&side(&far, "new")["admitted"], &far["log"]["counts"]["incomplete"]),
        (&3.into(), &1.into()),
        "{far}"
    );
    assert!(far["timeline"].as_array().unwrap().len() <= 240);
    // A step back adds 8,000 years to the times, which end with the year 9999.
    let steps: Vec<String> = (0..200).map(|at| line(if at % 2 == 0 { 9999 } else { 1971 }, 10)).collect();
    let html = directory.path().join("report.html");
    let log = write_log(directory.path(), "steps", &steps);
    let stepped = report(&new, &["--suggest", "--html", html.to_str().unwrap()], &[&log]);
    assert_eq!(side(&stepped, "new")["requests"], 200, "{stepped}");
    assert!(stepped["log"]["counts"]["clock_steps"].as_u64().unwrap() > 0, "{stepped}");
    assert!(std::fs::read_to_string(&html).unwrap().ends_with("</html>\n"));
    // A phase of more than a year is damage, whatever the duration is.
    let phases: Vec<String> = ["admission_us", "queue_us", "first_byte_us"]
        .map(|phase| {
            access_line(0, 5, "10.0.0.1", "")
                .replace(&format!("\"{phase}\":"), &format!("\"{phase}\":1844674407370955161"))
        })
        .into_iter()
        .chain(self::lines(3))
        .collect();
    let log = write_log(directory.path(), "phases", &phases);
    let damaged = report(&new, &[], &[&log]);
    let counts = &damaged["log"]["counts"];
    assert_eq!((&counts["incomplete"], &counts["requests"]), (&3.into(), &3.into()), "{damaged}");
}

/// Names of the log that act on a terminal or a page are shown harmless.
#[test]
fn hostile_names_are_escaped() {
    let directory = Scratch::new();
    // ESC, the one-byte CSI, DEL, and a right-to-left override.
    let subject = "\"subject\":\"<script>alert(1)</script>\\u001b[2J\\u009b2J\u{7f}\u{202e}x\",";
    let hostile = access_line(0, 5, "10.0.0.1", subject);
    let is_hostile = |text: &str| text.contains(['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}']);
    let log = write_log(directory.path(), "log", &[hostile]);
    let html = directory.path().join("report.html");
    let run = simulate(&configuration(""), &["--html", html.to_str().unwrap()], &[&log]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("alert(1)") && !is_hostile(&run.stdout), "{run:?}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script") && !is_hostile(&page), "{page}");
    assert!(page.contains("\\u001b[2J\\u009b2J\\u007f\\u202ex"), "{page}");
    // The JSON means the same text.
    let run = simulate(&configuration(""), &["--json", "-"], &[&log]);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let client = report["clients"][0]["client"].as_str().unwrap();
    assert!(!is_hostile(&run.stdout) && client.ends_with("\u{1b}[2J\u{9b}2J\u{7f}\u{202e}x"), "{run:?}");
    let times = ["incident", "--json", "--from", "2026-01-01T00:00:00Z", "--to", "2027-01-01T00:00:00Z"];
    let builder = times.iter().fold(Gateway::builder(), |builder, argument| builder.argument(argument));
    let run = builder.argument(log.to_str().unwrap()).run();
    assert!(!is_hostile(&run.stdout) && run.stdout.contains("\\u202ex"), "{run:?}");
}

/// A log is read from stdin, and a log that is given twice counts twice.
#[test]
fn a_log_is_read_from_stdin() {
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines(7));
    let configuration_file = directory.path().join("new.toml");
    std::fs::write(&configuration_file, configuration("")).unwrap();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env_clear()
        .args(["simulate", "--config", configuration_file.to_str().unwrap(), "--json", "-", "-"])
        .stdin(std::fs::File::open(&log).unwrap())
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(side(&report, "new")["requests"], 7);
    let twice: [&Path; 2] = [&log, &log];
    assert_eq!(side(&super::report(&configuration(""), &[], &twice), "new")["requests"], 14);
}
