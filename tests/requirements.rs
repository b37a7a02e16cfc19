//! The ledger of requirements: every ID, what it asks for, and whether tests show it.
//!
//! A requirement is `Met` when a test that can fail names its ID and drives the real binary or the real state
//! machine; this file fails if no test does. A test names IDs at the head of its doc comment (`/// S2, S5: …`; in
//! Python at the head of its docstring) and nowhere else, so that naming is on purpose: function names do not count,
//! for `s3_…` is the protocol and not the third requirement of supervision. `Later` says what is missing; tests may name
//! such IDs too, for the part that is there. The list of `Later` may only shrink.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::sources::{self, Source};

/// Where a requirement stands.
#[derive(Clone, Copy)]
enum Standing {
    /// Tests show it.
    Met,
    /// Not yet, or not whole: what is missing.
    Later(&'static str),
}
use Standing::{Later, Met};

/// How many requirements each letter has.
const GROUPS: [(char, usize); 16] = [
    ('S', 10),
    ('T', 7),
    ('R', 7),
    ('V', 13),
    ('X', 12),
    ('P', 9),
    ('B', 5),
    ('L', 10),
    ('A', 11),
    ('C', 5),
    ('E', 7),
    ('H', 7),
    ('I', 2),
    ('O', 10),
    ('G', 12),
    ('M', 5),
];

const LEDGER: [(&str, &str, Standing); 132] = [
    ("S1", "policy state changes in the mailboxes of five kinds of actors", Met),
    ("S2", "a panic restarts the actor behind the same address; waiting messages are served", Met),
    ("S3", "restart intensity, then failed with back-off", Met),
    ("S4", "what each actor means while it is failed", Met),
    ("S5", "a crash admits nothing past a guard and leaks no permit", Met),
    ("S6", "a message that crashed twice is refused", Met),
    ("S7", "mailboxes are bounded: busy at once", Met),
    ("S8", "a stalled actor is seen", Met),
    ("S9", "metrics per actor", Met),
    ("S10", "one breaker actor per bucket: a crash storm in one leaves the others' circuits alone", Met),
    ("T1", "total request timeout, paused while bytes flow", Met),
    ("T2", "upstream timeouts: connect, first byte, idle, and those of long operations", Met),
    ("T3", "a timeout is 504, cancels upstream and gives the permit back", Met),
    ("T4", "slow clients: header, body rate, keep-alive, write stall", Met),
    ("T5", "long streams are governed by the idle timeout", Met),
    ("T6", "a cut transfer looks cut", Met),
    ("T7", "a client that leaves cancels upstream and releases everything", Met),
    ("R1", "what is retried and what is not", Met),
    ("R2", "exponential back-off with full jitter, three attempts", Met),
    ("R3", "only replayable requests, never after the first byte", Met),
    ("R4", "Retry-After is honoured and capped", Met),
    ("R5", "a retry budget per bucket", Met),
    ("R6", "attempts, successes and exhaustion are metrics", Met),
    ("R7", "a client that retries is not multiplied", Met),
    ("V1", "ambiguous HTTP is refused and the connection closed", Met),
    ("V2", "limits of body, headers and URI", Met),
    ("V3", "control bytes and traversal in paths", Met),
    ("V4", "injection patterns by mode", Met),
    ("V5", "S3 paths travel byte for byte", Met),
    ("V6", "JSON guard of http buckets", Later("no guard yet")),
    ("V7", "hop-by-hop, nominated and internal headers end here", Met),
    ("V8", "malformed credentials are 401 or 403, never a crash", Met),
    ("V9", "HTTP/2 connections are bounded: frames, memory, streams that stand still", Met),
    ("V10", "slow readers, slow forms and crumbs hold no place for long", Met),
    ("V11", "operations are a closed table", Met),
    ("V12", "one reading of a path for policies, injection and copy sources", Met),
    ("V13", "forwarding and aliasing headers of strangers never go up", Met),
    ("X1", "watches descriptors, memory, CPU, lag, in-flight", Later("no CPU pressure, no event-loop lag")),
    ("X2", "levels with hysteresis and dwell", Later("critical switches little off yet")),
    ("X3", "probes, status and metrics answer at every level", Met),
    ("X4", "a stale or failed sensor never sheds", Met),
    ("X5", "out of descriptors: no crash, no busy loop", Met),
    ("X6", "sheds the heaviest client first", Later("clients are not weighed")),
    ("X7", "the status explains the level", Later("JSON only: no event stream, no page")),
    (
        "X8",
        "back to normal by itself; nothing is refused for a reason that refusing cannot end",
        Later("a limit of descriptors below what an idle process has open"),
    ),
    ("X9", "own shortages are never an upstream's fault; reserved descriptors", Met),
    ("X10", "one verdict and its causes", Later("circuits, endpoints and credentials have no `since`")),
    ("X11", "shedding by one published cursor", Later("not begun")),
    ("X12", "lost log lines, blocked readers and full disks are causes", Met),
    ("P1", "connections are reused, bounded and released", Met),
    ("P2", "requests in flight are bounded in the process", Met),
    ("P3", "a gate per bucket and credential with a bounded queue", Met),
    ("P4", "a released permit goes to the head waiter", Met),
    ("P5", "several endpoints: choice, ejection, health checks, failover", Met),
    ("P6", "a million clients do not grow memory", Met),
    ("P7", "adaptive concurrency", Met),
    ("P8", "upstream names are resolved again", Met),
    ("P9", "a stale kept connection is nobody's fault", Later("not begun")),
    ("B1", "the breaker opens, re-opens longer, and closes", Met),
    ("B2", "open is 503 at once with a true Retry-After, for one bucket", Met),
    ("B3", "what counts against an upstream", Met),
    ("B4", "half-open permits are bounded, returned and expire", Met),
    ("B5", "breaker metrics and status", Met),
    ("L1", "global, IP and bucket limits in one ask, client keys in a second", Met),
    ("L2", "limits are exact", Met),
    ("L3", "the client's address by trusted proxies", Met),
    ("L4", "no double counting", Met),
    ("L5", "tables are bounded", Met),
    ("L6", "shadow mode", Met),
    ("L7", "limits shared by several gateways", Later("not begun")),
    ("L8", "failed authentications have a limit", Met),
    ("L9", "bytes per second", Later("not begun")),
    ("L10", "usage and quotas per key and bucket", Later("not begun")),
    ("A1", "SigV4 from clients", Met),
    ("A2", "SigV4 towards upstream; a client's own never travels on", Met),
    ("A3", "JWT", Met),
    ("A4", "API keys, anonymous reads; nothing configured is closed", Met),
    ("A5", "policy per client key", Met),
    ("A6", "CORS", Met),
    ("A7", "TLS on both sides", Met),
    ("A8", "SigV2 from clients, opt-in", Met),
    ("A9", "regions as clients expect them", Met),
    ("A10", "client certificates, address lists per bucket", Later("not begun")),
    ("A11", "temporary keys from web identities", Later("not begun")),
    ("C1", "a bounded session cache", Met),
    ("C2", "affinity", Later("not begun")),
    ("C3", "a credential pool", Met),
    ("C4", "credentials appear nowhere", Later("not shown for every surface")),
    ("C5", "credentials from the environment and files", Met),
    ("E1", "one shape of errors", Met),
    ("E2", "an upstream's error object is seen first", Later("errors inside a 200 are counted, not mapped")),
    ("E3", "a panic is 500 and harms nobody else", Met),
    ("E4", "upstream text is cut and cleaned", Met),
    (
        "E5",
        "what is not supported is 501",
        Later("501 is shown for the embedded origin, SigV2, SigV4A and form fields, not for every operation"),
    ),
    (
        "E6",
        "buffered answers are capped",
        Later("shown for lists of buckets and error documents, not for every buffered answer"),
    ),
    ("E7", "an error adds less than 1 ms", Later("not measured")),
    ("H1", "credential headers for REST APIs", Met),
    ("H2", "SSE and WebSocket pass", Later("no upgrades")),
    ("H3", "container registries", Later("not begun")),
    ("H4", "redirects are not followed blindly", Met),
    ("H5", "routes by host, path and method", Later("not begun")),
    ("H6", "streams and WebSockets have bounds of their own", Later("not begun")),
    ("H7", "HTTP/2 and gRPC towards upstreams", Later("not begun")),
    ("I1", "checksums are verified as bytes stream", Met),
    ("I2", "ETag, range and conditional headers pass exactly", Met),
    ("O1", "request IDs", Met),
    ("O2", "the access log", Later("no phases for DNS and connect")),
    ("O3", "Prometheus metrics in one table", Met),
    ("O4", "every refusal names its reason", Later("no ring of decisions")),
    ("O5", "live and ready", Met),
    ("O6", "explain", Later("not begun")),
    ("O7", "simulate on a recorded log", Later("not begun")),
    ("O8", "tracing", Later("not begun")),
    ("O9", "audit log", Later("not begun")),
    ("O10", "a page, a stream, a terminal view", Later("not begun")),
    ("G1", "defaults < file < environment; unknown keys stop the start", Met),
    ("G2", "where each value came from can be asked", Later("not begun")),
    ("G3", "hot reload", Later("not begun")),
    ("G4", "drain on SIGTERM", Met),
    ("G5", "image, unit, manifests, dashboard", Later("image only")),
    ("G6", "documented defaults are the code's", Met),
    ("G7", "operator verbs", Later("not begun")),
    ("G8", "deploys without downtime", Later("not begun")),
    ("G9", "keys of the older plan name their new place", Met),
    ("G10", "identities are by name and never reused", Later("no reload yet")),
    ("G11", "an upgrade hands over sockets and state", Later("not begun")),
    ("G12", "`check` warns where settings defeat each other", Met),
    ("M1", "a million requests, flat memory", Later("a load test, run by hand")),
    ("M2", "a thousand reloads, flat memory", Later("no reload yet")),
    ("M3", "large bodies are not buffered", Later("the memory is a load test, run by hand")),
    ("M4", "a day's soak", Later("not begun")),
    (
        "M5",
        "chaos",
        Later(
            "each kind by itself, and in a small container a frozen store with a full log disk; not all at random",
        ),
    ),
];

/// A test and what it names.
struct Test {
    place: String,
    ids: Vec<String>,
    /// What looks like an ID and stands where it does not count.
    stray: Vec<String>,
}

/// Every test of the repository that has a doc comment.
fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for source in sources::all() {
        let docs = if source.is_rust() { rust_docs(&source) } else { python_docs(&source) };
        for (name, doc) in docs {
            let (ids, rest) = split_ids(&doc);
            let stray = words(rest).filter(|word| is_id(word) && *word != "S3").map(str::to_owned).collect();
            tests.push(Test { place: format!("{} {name}", source.path), ids, stray });
        }
    }
    tests
}

/// Name and doc comment of each test function.
fn rust_docs(source: &Source) -> Vec<(String, String)> {
    let mut docs = Vec::new();
    let (mut doc, mut is_test) = (Vec::new(), false);
    for line in source.text.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if line.starts_with("#[") {
            let path = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            is_test |= path == "test" || path.ends_with("::test");
        } else {
            let name = line.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next());
            if let (true, Some(name)) = (is_test, name) {
                docs.push((name.to_owned(), doc.join(" ")));
            }
            (doc, is_test) = (Vec::new(), false);
        }
    }
    docs
}

/// Name and docstring of each test function.
fn python_docs(source: &Source) -> Vec<(String, String)> {
    let mut docs = Vec::new();
    if !source.path.ends_with(".py") {
        return docs;
    }
    for test in source.text.split("\ndef test_").skip(1) {
        let name = test.split('(').next().unwrap_or_default();
        let doc = test.split_once(":\n    \"\"\"").and_then(|(_, rest)| rest.split("\"\"\"").next());
        docs.push((format!("test_{name}"), doc.unwrap_or_default().to_owned()));
    }
    docs
}

/// The IDs at the head of a doc comment, and the rest of it.
fn split_ids(doc: &str) -> (Vec<String>, &str) {
    let (mut ids, mut rest) = (Vec::new(), doc);
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if !is_id(word) || after.starts_with(' ') {
            return (ids, rest);
        }
        ids.push(word.to_owned());
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => return (ids, after),
        }
    }
}

/// A capital letter and one or two digits.
fn is_id(word: &str) -> bool {
    let mut characters = word.chars();
    let letter = characters.next().is_some_and(|c| c.is_ascii_uppercase());
    letter && (1..=2).contains(&characters.clone().count()) && characters.all(|c| c.is_ascii_digit())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}

/// Every requirement stands in the ledger, in order, once.
#[test]
fn the_ledger_is_complete() {
    let expected =
        GROUPS.iter().flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")));
    let listed: Vec<&str> = LEDGER.iter().map(|(id, ..)| *id).collect();
    assert_eq!(listed, expected.collect::<Vec<_>>());
    for (id, _, standing) in LEDGER {
        assert!(!matches!(standing, Later("")), "{id} is later: say why");
    }
}

#[test]
fn every_met_requirement_has_a_test_that_names_it() {
    let tests = tests();
    let named: BTreeSet<&str> = tests.iter().flat_map(|test| &test.ids).map(String::as_str).collect();
    let without: Vec<_> =
        LEDGER.iter().filter(|(id, _, standing)| matches!(standing, Met) && !named.contains(id)).collect();
    let lines: Vec<String> = without.iter().map(|(id, asks, _)| format!("  {id}: {asks}")).collect();
    assert!(
        without.is_empty(),
        "no test names these at the head of its doc comment:\n{}\n-> write the test, or say in the ledger why it is later",
        lines.join("\n")
    );
}

#[test]
fn tests_name_only_requirements_that_exist_and_only_at_the_head() {
    let known: BTreeSet<&str> = LEDGER.iter().map(|(id, ..)| *id).collect();
    let mut wrong = BTreeMap::new();
    for Test { place, ids, stray } in tests() {
        let unknown = ids.into_iter().filter(|id| !known.contains(id.as_str()));
        let all: Vec<String> = unknown.chain(stray).collect();
        if !all.is_empty() {
            wrong.insert(place, all);
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\n-> name requirements of the ledger, as `/// S2, S5: what it shows`, and none further on in the text"
    );
}

/// The scan sees what it should: it would call everything met, or nothing, if it did not.
#[test]
fn ids_are_read_at_the_head_of_a_doc_comment() {
    assert_eq!(split_ids("S2, S5: a crash"), (vec!["S2".to_owned(), "S5".to_owned()], ": a crash"));
    assert_eq!(split_ids("V5"), (vec!["V5".to_owned()], ""));
    assert_eq!(split_ids("M3, as far as it goes"), (vec!["M3".to_owned()], "as far as it goes"));
    assert_eq!(split_ids("S3 answers in XML").0, Vec::<String>::new());
    let rust = "/// B1: x\n#[tokio::test]\nasync fn opens() {\n}\n/// B2\nfn not_a_test() {}\n#[test]\nfn undocumented() {}\n";
    let found = rust_docs(&Source::sample("tests/x.rs", rust));
    assert_eq!(found, [("opens".to_owned(), "B1: x".to_owned()), ("undocumented".to_owned(), String::new())]);
    let python = "import a\n\n\ndef test_keys(a):\n    \"\"\"V5, V4: keys.\"\"\"\n    pass\n";
    assert_eq!(
        python_docs(&Source::sample("x.py", python)),
        [("test_keys".to_owned(), "V5, V4: keys.".to_owned())]
    );
}
