//! Reasons, log fields and log messages: the code's words compared with the tables in `docs/` (O4).
//!
//! The code's words are collected from the product lines: the positions of reasons (`reasons`) and the fields of every
//! logging macro. An undocumented literal with an underscore is an error too, unless it is listed as another word, so a
//! reason in a new position is found. `assert_documented` compares every log line of a gateway under test with the same
//! tables.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::documents::marked;
use super::literals::{Code, is_word};
use super::sources::{Source, all};

/// Literals with an underscore that are neither reasons nor fields, and are not documented: names of other protocols and
/// of Rust.
const OTHER_WORDS: [&str; 9] = [
    "aws4_request",
    "has_ended",
    "is_cut",
    "no_wait",
    "request_id",
    "retry_after",
    "success_action_redirect",
    "success_action_status",
    "vendor_id",
];
/// Files with tables of other words: secret parameters, S3 operations, the embedded origin, CPU features, kernel files.
const OTHER_FILES: [&str; 5] = [
    "src/telemetry/redact.rs",
    "src/auth/operation/",
    "src/origin/",
    "src/memcpy.rs",
    "actors/src/monitor/sensors/",
];
/// Literals in files of reasons that are no reasons: keys of JSON, and verbs of messages.
const NO_REASONS: [&str; 9] =
    ["code", "configure", "delete", "error", "list", "message", "read", "request_id", "write"];
/// Fields that each JSON line has.
const COMMON: [&str; 3] = ["level", "msg", "ts"];

/// Page and mark of each table of reasons.
const REASON_TABLES: [(&str, &str); 6] = [
    ("docs/errors.md", "answer-reasons"),
    ("docs/errors.md", "connection-reasons"),
    ("docs/errors.md", "transfer-reasons"),
    ("docs/errors.md", "end-reasons"),
    ("docs/errors.md", "decision-reasons"),
    ("docs/status.md", "readiness-reasons"),
];
/// The page with the log fields and messages.
const LOG_PAGE: &str = "docs/operations.md";

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::read);

/// The documented words.
struct Tables {
    reasons: BTreeSet<String>,
    /// Fields of the line `request`.
    access: BTreeSet<String>,
    /// Fields of all other lines.
    others: BTreeSet<String>,
}

impl Tables {
    fn read() -> Self {
        Self {
            reasons: REASON_TABLES
                .iter()
                .flat_map(|(page, name)| column(&marked(page, name), "reason"))
                .collect(),
            access: column(&marked(LOG_PAGE, "access-fields"), "field"),
            others: column(&marked(LOG_PAGE, "log-fields"), "field"),
        }
    }
}

/// The words in backquotes in the column of a table with this title.
fn column(table: &str, title: &str) -> BTreeSet<String> {
    let cells = |row: &str| -> Vec<String> { row.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let mut at = None;
    let mut words = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with('|')).map(cells) {
        at = row.iter().position(|cell| cell == title).or(at);
        let cell = at.and_then(|at| row.get(at)).map_or("", String::as_str);
        words.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    assert!(at.is_some(), "no column `{title}` in\n{table}");
    words
}

/// README.md and the pages of the manual.
fn documents() -> impl Iterator<Item = Source> {
    let is_manual = |path: &str| path.strip_prefix("docs/").is_some_and(|name| !name.contains('/'));
    all().into_iter().filter(move |source| source.path == "README.md" || is_manual(&source.path))
}

fn product_sources() -> Vec<Source> {
    let is_gateway =
        |path: &str| ["src/", "actors/src/", "s3/src/"].iter().any(|root| path.starts_with(root));
    let aside = ["/fuzzing", "fuzzing.rs", "_tests.rs", "samples.rs"];
    all()
        .into_iter()
        .filter(|source| is_gateway(&source.path) && !aside.iter().any(|part| source.path.contains(part)))
        .collect()
}

/// Files in which every lower-case literal is a reason. Figures have names of configuration keys.
fn is_of_reasons(path: &str) -> bool {
    path.starts_with("src/http/error/") && !path.starts_with("src/http/error/figures/")
}

/// Reasons that a file can return.
fn reasons(path: &str, code: &Code) -> BTreeSet<String> {
    if is_of_reasons(path) {
        let is_reason = |word: &String| !NO_REASONS.contains(&word.as_str());
        return code.words(0..code.len()).into_iter().filter(is_reason).collect();
    }
    let mut found = BTreeSet::new();
    for function in ["fn reason(", "fn refusal("] {
        found.extend(code.after(function, '{', '}').into_iter().flat_map(|body| code.words(body)));
    }
    for call in ["log_rejected(", "unrouted(", ".error(", "Answer::new("] {
        found.extend(code.after(call, '(', ')').into_iter().flat_map(|arguments| code.words(arguments)));
    }
    for place in ["reason: ", "reason: Some(", "reason = Some(", "\"reason\": "] {
        found.extend(code.literal_after(place));
    }
    for statement in ["let reason = ", "let (reason, "] {
        found.extend(code.statements(statement).into_iter().flat_map(|range| code.words(range)));
    }
    found
}

/// Fields of the logging macros in a file: of the line `request`, and of others.
fn fields(code: &Code) -> [BTreeSet<String>; 2] {
    let macros = ["info!(", "warn!(", "error!(", "crit!(", "debug!(", "trace!(", "o!(", "b!(", "record!("];
    let (mut access, mut others) = (BTreeSet::new(), BTreeSet::new());
    for range in macros.iter().flat_map(|name| code.after(name, '(', ')')) {
        let is_access = code.first_literal(range.clone()) == Some("request");
        if is_access { &mut access } else { &mut others }.extend(code.keys(range));
    }
    // The access line does not use the macros.
    for method in ["text", "optional_text", "word", "optional_word", "number", "optional_number", "display"] {
        access.extend(code.literal_after(&format!("fields.{method}(")));
    }
    [access, others]
}

/// Words that must be documented, and words that may be.
fn compare(
    what: &str,
    required: &BTreeSet<String>,
    possible: &BTreeSet<String>,
    documented: &BTreeSet<String>,
) {
    let missing: Vec<_> = required.difference(documented).collect();
    let stray: Vec<_> = documented.difference(possible).collect();
    assert!(
        missing.is_empty() && stray.is_empty(),
        "docs/ lacks the {what} {missing:?} and names {stray:?}, which the code does not have\n\
         -> one row in the table, the word in backquotes"
    );
}

/// O4: every reason of the code is documented, and every documented reason is in the code
#[test]
fn every_reason_is_documented() {
    let (mut found, mut words) = (BTreeSet::new(), BTreeSet::new());
    for source in product_sources().iter().filter(|source| !source.path.starts_with("actors/")) {
        let code = Code::of(source);
        found.extend(reasons(&source.path, &code));
        words.extend(code.words(0..code.len()));
    }
    compare("reasons", &found, &words, &TABLES.reasons);
}

/// O3, O4: the reasons with a series from the start are the documented ones
#[test]
fn every_reason_has_a_series() {
    let mut listed = BTreeSet::new();
    for source in all().iter().filter(|source| source.path.starts_with("src/telemetry/metrics/reasons/")) {
        let code = Code::of(source);
        listed.extend(code.words(0..code.len()));
    }
    // Only refusals and broken transfers count as errors.
    let is_counted = |(page, name): &&(&str, &str)| {
        *page == "docs/errors.md" && !["decision-reasons", "end-reasons"].contains(name)
    };
    let pages = REASON_TABLES.iter().filter(is_counted);
    let documented = pages.flat_map(|(page, name)| column(&marked(page, name), "reason")).collect();
    compare("reasons with a series", &listed, &listed, &documented);
}

/// O4: a reason outside the known positions is documented too
#[test]
fn every_word_that_could_be_a_reason_is_documented() {
    let documents: String = documents().map(|page| page.text).collect();
    let mut known: BTreeSet<&str> =
        documents.split('`').flat_map(|text| text.split(['{', '.', '=', ' '])).collect();
    // The code names metrics without their namespace.
    let metrics = known.iter().filter_map(|word| word.strip_prefix("tidegate_")).collect::<Vec<_>>();
    known.extend(metrics);
    let mut unknown = BTreeSet::new();
    for source in product_sources()
        .iter()
        .filter(|source| !OTHER_FILES.iter().any(|file| source.path.starts_with(file)))
    {
        let code = Code::of(source);
        let words = code.words(0..code.len()).into_iter();
        let strange = |word: &String| {
            word.contains('_') && !known.contains(word.as_str()) && !OTHER_WORDS.contains(&word.as_str())
        };
        unknown.extend(words.filter(strange).map(|word| format!("{}: {word}", source.path)));
    }
    assert!(
        unknown.is_empty(),
        "undocumented words: {unknown:#?}\n-> document a reason, or list another word in OTHER_WORDS"
    );
}

/// O4: the documented log fields equal those of the code
#[test]
fn every_log_field_is_documented() {
    let (mut access, mut others) = (BTreeSet::new(), BTreeSet::new());
    for source in product_sources() {
        let [of_request, of_others] = fields(&Code::of(&source));
        access.extend(of_request);
        others.extend(of_others);
    }
    compare("fields of the access line", &access, &access, &TABLES.access);
    compare("fields of other log lines", &others, &others, &TABLES.others);
}

/// O4: the documented log messages are in the code
#[test]
fn every_documented_message_is_written() {
    let documented = column(&marked(LOG_PAGE, "log-messages"), "message");
    let written: String = product_sources().into_iter().map(|source| source.text).collect();
    let stray: Vec<_> =
        documented.iter().filter(|message| !written.contains(&format!("\"{message}"))).collect();
    assert!(documented.len() > 10 && stray.is_empty(), "no code logs {stray:?}\n-> follow in {LOG_PAGE}");
}

/// O4: every field and reason of a written log line is documented
pub(crate) fn assert_documented(line: &Value) {
    let Some(fields) = line.as_object() else { return };
    let tables = &*TABLES;
    let is_access = line["msg"] == "request";
    let known = if is_access { &tables.access } else { &tables.others };
    let strange = |name: &&String| !known.contains(*name) && !COMMON.contains(&name.as_str());
    let unknown: Vec<_> = fields.keys().filter(strange).collect();
    assert!(unknown.is_empty(), "docs/ has no field {unknown:?}: {line}");
    let reason = line["reason"].as_str().filter(|_| is_access);
    assert!(reason.is_none_or(|reason| tables.reasons.contains(reason)), "docs/ has no such reason: {line}");
}

/// A reason in each known position is found, and a word elsewhere is not: otherwise the comparison would check nothing.
#[test]
fn reasons_and_fields_are_found_in_their_positions() {
    let of = |path: &str, text: &str| {
        let source = Source::sample(path, text);
        reasons(path, &Code::of(&source)).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(of("src/http/error/x.rs", "f(\"Code\", \"one\", \"a message\")"), ["one"]);
    assert_eq!(
        of("src/x.rs", "fn reason(self) -> &'static str { match self { A => \"two\" } }\nf(\"no\");"),
        ["two"]
    );
    assert_eq!(of("src/x.rs", "log_rejected(worker, f(client), \"three\", &why); g(\"no\")"), ["three"]);
    assert_eq!(of("src/x.rs", "record.reason = Some(\"four\");"), ["four"]);
    assert_eq!(
        of("src/x.rs", "let (reason, c) = match e { A => (\"five\", B), C => (\"six\", D) }; \"no\""),
        ["five", "six"]
    );
    assert_eq!(of("src/x.rs", "json!({ \"ready\": false, \"reason\": \"seven\" })"), ["seven"]);
    let text = "info!(log, \"m\"; \"a\" => f(\"no\"), \"b_c\" => %x); match y { \"no\" => 1 } info!(log, \"request\"; \"d\" => 1); fields.text(\"e\", \"no\");";
    let [access, others] = fields(&Code::of(&Source::sample("src/x.rs", text))).map(Vec::from_iter);
    assert_eq!(
        (access, others),
        (vec!["d".to_owned(), "e".to_owned()], vec!["a".to_owned(), "b_c".to_owned()])
    );
    assert!(is_word("a_b1") && !is_word("A") && !is_word("a b") && !is_word("1a") && !is_word(""));
}

/// The check of written lines refuses an undocumented field.
#[test]
#[should_panic(expected = "has no field")]
fn an_undocumented_field_is_refused() {
    assert_documented(&serde_json::json!({ "msg": "request", "no_such_field": 1 }));
}

/// The check of written lines refuses an undocumented reason.
#[test]
#[should_panic(expected = "no such reason")]
fn an_undocumented_reason_is_refused() {
    assert_documented(&serde_json::json!({ "msg": "request", "reason": "no_such_reason" }));
}
